//! The four roles as processes, judged from outside.

mod golden;
mod joint;
mod world;
