//! The orders of operators, carried out.

use async_trait::async_trait;

use super::{Control, overrides::Overrides, writer::Writer};
use crate::{
    admin::{Applied, Change, Commands, Guard, Override, Probation, Refused, Running, Target},
    config::{self, Loaded},
    discovery::docker,
};

#[async_trait]
impl Commands for Control {
    fn drain(&self) {
        self.begin_drain();
        self.switches.exit.send_replace(true);
    }

    async fn reload(&self, guard: Guard) -> Result<Applied, Refused> {
        self.exclusively(move |me| async move {
            let loaded = me.read(None).await?;
            me.take(loaded, me.origin.name(), guard).await
        })
        .await
    }

    async fn apply(&self, text: String, guard: Guard) -> Result<Applied, Refused> {
        self.exclusively(move |me| async move {
            let loaded = me.read(Some(text)).await?;
            me.take(loaded, "posted".to_owned(), guard).await
        })
        .await
    }

    async fn rollback(&self) -> Result<Applied, Refused> {
        self.exclusively(move |me| async move {
            let mut writer = me.writer.lock().await;
            let Some(before) = writer.before.clone() else {
                return Err(Refused::Conflict("there is no configuration to go back to".into()));
            };
            if let Some(Probation::Running { generation, .. }) = me.running().probation {
                me.end_probation(Probation::Ended { generation, reason: "rolled back by an operator".into() });
            }
            let taken = me.replace(&mut writer, before).await;
            if taken.is_ok() {
                me.keep_last_good(&writer.base).await;
            }
            me.tell(&taken);
            taken
        })
        .await
    }

    async fn upgrade(&self) -> Result<u32, Refused> {
        self.exclusively(|me| async move { me.hand_over().await }).await
    }

    async fn change(&self, change: Change) -> Result<Applied, Refused> {
        self.exclusively(move |me| async move {
            let mut writer = me.writer.lock().await;
            me.check_object(&change)?;
            let overrides = writer.overrides.with(change.clone(), &writer.base.spec)?;
            let put = me.put_overrides(&mut writer, overrides).await;
            if put.is_ok() {
                me.tell_changed(&change);
            }
            put
        })
        .await
    }

    async fn revert(&self, target: Target) -> Result<Applied, Refused> {
        self.exclusively(move |me| async move {
            let mut writer = me.writer.lock().await;
            let overrides = writer.overrides.without(&target);
            let overrides = overrides.ok_or_else(|| Refused::NotFound("nothing was changed there at runtime".into()))?;
            me.put_overrides(&mut writer, overrides).await
        })
        .await
    }

    fn overrides(&self) -> Vec<Override> {
        self.status.lock().overrides.clone()
    }

    async fn check(&self, text: String) -> Loaded {
        match self.read(Some(text)).await {
            Ok(loaded) => loaded,
            // Only a fault of the runtime; what is missing then is said by the absence of a Spec.
            Err(_) => Loaded { spec: None, document: config::Document::default(), diagnostics: Vec::new() },
        }
    }

    fn running(&self) -> Running {
        self.status.lock().running.clone()
    }

    fn container_diagnostics(&self) -> Vec<docker::Diagnostic> {
        self.engines().diagnostics().list()
    }
}

impl Control {
    /// What is ordered about an endpoint must concern one that is there.
    fn check_object(&self, change: &Change) -> Result<(), Refused> {
        let (Change::RemoveEndpoint { upstream, address }
        | Change::SetWeight { upstream, address, .. }
        | Change::SetMode { upstream, address, .. }) = change
        else {
            return Ok(());
        };
        let snapshot = self.shared().store.load();
        let Some(found) = snapshot.upstreams.get(upstream) else {
            return Err(Refused::NotFound(format!("there is no upstream {upstream}")));
        };
        let known = found.endpoints().iter().any(|endpoint| endpoint.address() == address);
        known.then_some(()).ok_or_else(|| Refused::NotFound(format!("upstream {upstream} has no endpoint {address}")))
    }

    async fn put_overrides(&self, writer: &mut Writer, overrides: Overrides) -> Result<Applied, Refused> {
        let base = writer.base.clone();
        self.put(writer, base, overrides).await?;
        let generation = writer.generation;
        self.shared().observer.metrics().started(generation);
        log::info!("generation {generation}: changed at runtime");
        Ok(Applied { generation, notes: Vec::new(), warnings: Vec::new() })
    }
}
