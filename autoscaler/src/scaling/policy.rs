//! What the file says about the scaling of one pool.

use std::sync::Arc;

use weir_config::{AlarmName, Comparison, Condition, Config, PoolName, Scaling, StepAdjustment, StepPolicy};

/// What the file says about one pool.
#[derive(Clone, PartialEq, Debug)]
pub struct Policy {
    /// The pool.
    pub pool: PoolName,
    /// Its table.
    pub scaling: Arc<Scaling>,
    /// The floor of the pool.
    pub min_healthy: u32,
    /// Steps by alarms: those of the table and those that alarms ask for themselves.
    pub steps: Vec<AlarmSteps>,
}

/// Steps that hang on one alarm.
#[derive(Clone, PartialEq, Debug)]
pub struct AlarmSteps {
    /// The alarm.
    pub alarm: AlarmName,
    /// Its threshold; `None`: it has none, and every step begins at once.
    pub threshold: Option<(Comparison, f64)>,
    /// A change in percent changes at least so many.
    pub min_change: u32,
    /// The steps.
    pub adjust: Vec<StepAdjustment>,
}

impl Policy {
    /// Of a pool that is scaled.
    pub fn of(config: &Config, pool: &PoolName) -> Option<Policy> {
        let table = config.pools.get(pool)?;
        let scaling = table.scaling.clone()?;
        let threshold = |alarm: &AlarmName| match &config.alarms.get(alarm)?.condition {
            Condition::Threshold(threshold) => Some((threshold.comparison, threshold.limit)),
            Condition::Composite(_) => None,
        };
        let of_table = scaling.steps.iter().map(|StepPolicy { alarm, min_change, adjust }| AlarmSteps {
            alarm: alarm.clone(),
            threshold: threshold(alarm),
            min_change: *min_change,
            adjust: adjust.clone(),
        });
        let of_alarms = config.alarms.values().filter_map(|alarm| {
            let (_, change) = alarm.scale.as_ref().filter(|(scaled, _)| scaled == pool)?;
            let adjust = vec![StepAdjustment { from: None, to: None, change: *change }];
            Some(AlarmSteps { alarm: alarm.name.clone(), threshold: threshold(&alarm.name), min_change: 1, adjust })
        });
        let steps = of_table.chain(of_alarms).collect();
        Some(Policy { pool: pool.clone(), scaling, min_healthy: table.min_healthy, steps })
    }
}
