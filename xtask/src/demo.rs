//! stub
pub(crate) fn run(_once: bool) -> anyhow::Result<()> {
    anyhow::bail!("not yet")
}
