//! One line registers a kind: a strategy, a filter, a probe.

/// Declares the kinds of one thing: the serde enum (kind-as-key, or bare where every option has a
/// default), the list of kinds, and the name of each.
///
/// ```text
/// registry! {
///     /// How an endpoint is chosen.
///     pub enum StrategySpec {
///         /// In turn.
///         RoundRobin(round_robin::RoundRobinSpec) = "round_robin",
///     }
/// }
/// ```
///
/// Every kind holds its own Spec (`Deserialize + Serialize + JsonSchema`), in its own file. A kind
/// without options has an empty Spec, so that it may be written bare or as `kind: {}`.
#[macro_export]
macro_rules! registry {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$kind_meta:meta])* $variant:ident($spec:ty) = $kind:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        pub enum $name {
            $($(#[$kind_meta])* #[serde(rename = $kind)] $variant($spec),)+
        }
        impl $name {
            /// Every kind, in the order of the documentation.
            pub const KINDS: &'static [&'static str] = &[$($kind),+];
            /// The kind of this one, as users write it.
            pub fn kind(&self) -> &'static str {
                match self { $($name::$variant(_) => $kind),+ }
            }
        }
    };
}
