//! Two Regions of one cluster in one process: a primary that sends, a backup behind its gateway, and
//! between them a proxy that cuts, stalls and spoils.

mod deliveries;
mod full_disk;
mod history;
mod model;
mod outages;
mod proxy;
mod rig;
mod state;
