//! A registry whose metrics are added under the names that clients see, `_total` of counters left out.
//!
//! The unit is the end of the name, as OpenMetrics has it.

use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};

type Labels<const N: usize> = [(&'static str, &'static str); N];

#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) registry: Registry,
    #[cfg(test)]
    pub(super) rows: Vec<Row>,
}

/// A metric as the documentation has it.
#[cfg(test)]
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// As in a query: with `_total` if it is a counter.
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) labels: Vec<String>,
    pub(super) unit: String,
}

/// A metric for each combination of values of its labels.
#[derive(Debug, Clone)]
pub(super) struct Labelled<M, const N: usize> {
    keys: [&'static str; N],
    family: Family<Labels<N>, M>,
}

impl<M: Clone, const N: usize> Labelled<M, N> {
    fn new(keys: [&'static str; N], make: fn() -> M) -> Self {
        Self {
            keys,
            family: Family::new_with_constructor(make),
        }
    }

    /// The metric of these values, in the order of the keys.
    pub(super) fn of(&self, values: [&'static str; N]) -> M {
        let mut labels = self.keys.map(|key| (key, ""));
        for (label, value) in labels.iter_mut().zip(values) {
            label.1 = value;
        }
        self.family.get_or_create_owned(&labels)
    }

    /// Shows these from the start on: an alert sees the first event only if there was a 0 before it.
    pub(super) fn showing(self, values: impl IntoIterator<Item = [&'static str; N]>) -> Self {
        for values in values {
            drop(self.of(values));
        }
        self
    }
}

impl Table {
    fn add(&mut self, name: &'static str, _keys: &[&'static str], help: &str, metric: impl Metric) {
        #[cfg(test)]
        self.rows.push(Row::new(name, _keys, &metric));
        let units = [("_seconds", Unit::Seconds), ("_bytes", Unit::Bytes)];
        let unit = units
            .into_iter()
            .find_map(|(end, unit)| Some((name.strip_suffix(end)?, unit)));
        match unit {
            Some((stem, unit)) => self.registry.register_with_unit(stem, help, unit, metric),
            None => self.registry.register(name, help, metric),
        }
    }

    pub(super) fn counter(&mut self, name: &'static str, help: &str) -> Counter {
        let counter = Counter::default();
        self.add(name, &[], help, counter.clone());
        counter
    }

    pub(super) fn gauge(&mut self, name: &'static str, help: &str) -> Gauge {
        let gauge = Gauge::default();
        self.add(name, &[], help, gauge.clone());
        gauge
    }

    pub(super) fn histogram(
        &mut self,
        name: &'static str,
        help: &str,
        buckets: impl IntoIterator<Item = f64>,
    ) -> Histogram {
        let histogram = Histogram::new(buckets);
        self.add(name, &[], help, histogram.clone());
        histogram
    }

    pub(super) fn counters<const N: usize>(
        &mut self,
        name: &'static str,
        keys: [&'static str; N],
        help: &str,
    ) -> Labelled<Counter, N> {
        let counters = Labelled::new(keys, Counter::default);
        self.add(name, &keys, help, counters.family.clone());
        counters
    }

    pub(super) fn gauges<const N: usize>(
        &mut self,
        name: &'static str,
        keys: [&'static str; N],
        help: &str,
    ) -> Labelled<Gauge, N> {
        let gauges = Labelled::new(keys, Gauge::default);
        self.add(name, &keys, help, gauges.family.clone());
        gauges
    }

    pub(super) fn histograms<const N: usize>(
        &mut self,
        name: &'static str,
        keys: [&'static str; N],
        help: &str,
        make: fn() -> Histogram,
    ) -> Labelled<Histogram, N> {
        let histograms = Labelled::new(keys, make);
        self.add(name, &keys, help, histograms.family.clone());
        histograms
    }

    /// A gauge that is made for one answer.
    pub(super) fn state(&mut self, name: &'static str, help: &str, value: impl TryInto<i64>) {
        self.add(name, &[], help, ConstGauge::new(number(value)));
    }

    /// Gauges that are made for one answer, by the value of one label.
    pub(super) fn states<V: TryInto<i64>>(
        &mut self,
        name: &'static str,
        key: &'static str,
        help: &str,
        values: impl IntoIterator<Item = (&'static str, V)>,
    ) {
        let gauges = self.gauges(name, [key], help);
        for (of, value) in values {
            gauges.of([of]).set(number(value));
        }
    }

    /// As [`state`](Self::state), for seconds.
    pub(super) fn state_seconds(&mut self, name: &'static str, help: &str, value: f64) {
        self.add(name, &[], help, ConstGauge::new(value));
    }

    /// A counter that somebody else counts.
    pub(super) fn count(&mut self, name: &'static str, help: &str, value: u64) {
        self.add(name, &[], help, ConstCounter::new(value));
    }

    /// As [`count`](Self::count), for seconds.
    pub(super) fn count_seconds(&mut self, name: &'static str, help: &str, value: f64) {
        self.add(name, &[], help, ConstCounter::new(value));
    }
}

fn number(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
impl Row {
    fn new(name: &str, keys: &[&'static str], metric: &impl Metric) -> Self {
        let kind = metric.metric_type().as_str().to_owned();
        let total = if kind == "counter" { "_total" } else { "" };
        let unit = ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(unit));
        Self {
            name: format!("{name}{total}"),
            kind,
            labels: keys.iter().map(|key| (*key).to_owned()).collect(),
            unit: unit.unwrap_or_default().to_owned(),
        }
    }
}
