//! Node Resource Interface: the runtime's side of its plugins.

pub mod proto;
