//! What was, for people.

use super::{Screen, add, event, finish, single_line, table, time};
use crate::api::model::{AuditItem, AuditVerdict, EventView, HistoryItem, TrialView};

/// A line for each, written as events are.
pub(crate) fn history(entries: &[HistoryItem]) -> String {
    if entries.is_empty() {
        return "nothing is kept of it\n".into();
    }
    let line = |item: &HistoryItem| {
        let details = match &item.details {
            serde_json::Value::Object(fields) => fields.clone().into_iter().collect(),
            _ => Default::default(),
        };
        event(&EventView { number: item.id, at: item.at, event: item.kind.clone(), details })
    };
    entries.iter().map(line).collect()
}

/// The audit.
pub(crate) fn audit(records: &[AuditItem], screen: Screen) -> String {
    if records.is_empty() {
        return "no records\n".into();
    }
    let mut table = table(&[">NO", "TIME", "WHO", "FROM", "ACT", "SUBJECT", "OUTCOME", "DETAIL"], screen);
    for record in records {
        let AuditItem { number, at, who, origin, act, subject, outcome, detail, hash: _ } = record.clone();
        add(&mut table, [number.to_string(), time(at), who, origin, act, subject, outcome, detail]);
    }
    finish(&table, screen)
}

/// Whether it holds.
pub(crate) fn audit_verdict(verdict: &AuditVerdict) -> String {
    let AuditVerdict { broken, checked, first, number, hash, fault, .. } = verdict;
    let mut text = match broken {
        Some(broken) => format!("the audit does NOT hold: {broken}\n"),
        None if *checked == 0 => "the audit holds no record\n".into(),
        None => format!("the audit holds: {checked} records, {first} to {number}\nnote it elsewhere: {number}:{hash}\n"),
    };
    if let Some(fault) = fault {
        text.push_str(&format!("the last records are in memory alone: {fault}\n"));
    }
    text
}

/// What an alarm would have done.
pub(crate) fn trial(trial: &TrialView) -> String {
    let length = |seconds: f64| super::duration(std::time::Duration::from_secs_f64(seconds.clamp(0.0, 1e9)));
    let mut text = format!(
        "{} to {}: {} times in alarm for {} in all, {} times with something done about it\n",
        time(trial.from),
        time(trial.to),
        trial.alarms,
        length(trial.in_alarm_s),
        trial.engagements
    );
    if trial.without_data_s > 0.0 {
        text.push_str(&format!("without enough data for {}\n", length(trial.without_data_s)));
    }
    text.extend(trial.missing.iter().map(|series| format!("nothing is kept of {}\n", single_line(series))));
    for change in &trial.changes {
        text.push_str(&format!("  {} {} -> {}: {}\n", time(change.at), change.from, change.to, single_line(&change.reason)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let good = AuditVerdict { holds: true, broken: None, checked: 3, first: 1, number: 3, hash: "ab".into(), fault: None };
        assert!(audit_verdict(&good).contains("note it elsewhere: 3:ab"));
        let bad = AuditVerdict { holds: false, broken: Some("record 2 is missing".into()), fault: Some("full".into()), ..good };
        assert_eq!(audit_verdict(&bad), "the audit does NOT hold: record 2 is missing\nthe last records are in memory alone: full\n");
    }

    #[test]
    fn entries_are_written_as_events() {
        let details = serde_json::json!({ "pool": "web", "endpoint": "10.0.0.1:80" });
        let item = HistoryItem { id: 7, at: 1_700_000_000.0, kind: "readmitted".into(), subject: "web".into(), details };
        assert!(history(&[item]).contains("web 10.0.0.1:80 is no longer ejected"));
        assert_eq!(history(&[]), "nothing is kept of it\n");
    }
}
