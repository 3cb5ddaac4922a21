//! What is said about configurations, good and bad.

#[path = "conf/agreement.rs"]
mod agreement;
#[path = "conf/bad.rs"]
mod bad;
#[path = "conf/hostile.rs"]
mod hostile;
#[path = "conf/imports.rs"]
mod imports;
