//! Also what the tests of all IPAM plugins need.

use pausa_cni::{Call, Route};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

pub(crate) fn with_args(mut call: Call, args: &[(&str, &str)]) -> Call {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    call.args = args.iter().map(owned).collect();
    call
}

/// What a result says, whatever the version in which it says so.
pub(crate) fn unversioned(result: &Value) -> AddResult {
    AddResult {
        cni_version: String::new(),
        ..AddResult::from_value(result).unwrap()
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    ipam: Option<Ipam>,
    #[serde(rename = "runtimeConfig")]
    _runtime_config: Option<Map<String, Value>>,
    args: Option<Args<Cidr>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ipam {
    routes: Option<Vec<RouteConfig>>,
}

fn parsed(config: &Value) -> Result<Config, String> {
    parse(config.as_object().unwrap())
}

#[test]
fn keys_of_others_are_passed_over_and_unknown_ones_are_not() {
    let config = json!({
        "name": "net", "type": "bridge", "isGateway": true, "ipam": {"type": "static"},
        "runtimeConfig": {"mac": "02:00:00:00:00:01", "portMappings": []},
        "args": {"cni": {"mac": "02:00:00:00:00:01", "ips": ["10.0.0.1/24"]}},
    });
    let config = parsed(&config).unwrap();
    assert_eq!(config.args.unwrap().addresses().len(), 1);
    for unknown in [
        json!({"ipam": {"subnets": 1}}),
        json!({"ipam": {"routes": [{"dst": "10.0.0.0/8", "via": "10.0.0.1"}]}}),
        json!({"ipam": {"routes": [{"gw": "10.0.0.1"}]}}),
        json!({"ipam": {"routes": [{"dst": "10.0.0.0/8", "mtu": -1}]}}),
        json!({"args": {"cni": {"ip": []}}}),
        json!({"args": {"org": {}}}),
    ] {
        parsed(&unknown).unwrap_err();
    }
    for nothing in [
        json!({}),
        json!({"args": null, "ipam": null}),
        json!({"args": {"cni": null}}),
    ] {
        parsed(&nothing).unwrap();
    }
}

#[test]
fn routes_have_all_attributes() {
    let config = json!({"ipam": {"routes": [
        {"dst": "10.0.0.1/8", "gw": "10.0.0.1", "mtu": 1400, "advmss": 1360, "priority": 5, "table": 0, "scope": 253},
        {"dst": "::/0", "gw": "", "mtu": 0},
    ]}});
    let routes: Vec<Route> = parsed(&config)
        .unwrap()
        .ipam
        .and_then(|ipam| ipam.routes)
        .into_iter()
        .flatten()
        .map(Route::from)
        .collect();
    assert_eq!(
        json!(routes),
        json!([
            {"dst": "10.0.0.1/8", "gw": "10.0.0.1", "mtu": 1400, "advmss": 1360, "priority": 5, "table": 0, "scope": 253},
            {"dst": "::/0"},
        ])
    );
}

proptest! {
    #[test]
    fn any_text_is_a_network_or_refused(text in ".{0,40}|[0-9a-f:./]{0,30}") {
        if let Ok(Cidr(net)) = text.parse() {
            prop_assert_eq!(net.to_string().parse(), Ok(Cidr(net)));
        }
    }
}
