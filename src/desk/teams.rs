//! The teams of the settings, by name.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::hours::Hours;
use crate::config::DeskSettings;

/// All teams with their hours.
#[derive(Debug, Clone, Default)]
pub struct Teams(BTreeMap<String, Hours>);

impl Teams {
    /// # Errors
    /// A team without a name or named twice, hours that cannot be read.
    pub fn read(settings: &DeskSettings) -> Result<Self, String> {
        let mut teams = BTreeMap::new();
        for team in &settings.teams {
            if team.name.trim().is_empty() {
                return Err("desk.teams: a team has no name; name it as the operators' handoff.queue does".into());
            }
            if teams.insert(team.name.clone(), Hours::read(team)?).is_some() {
                return Err(format!("desk.teams: two teams are named {:?}", team.name));
            }
        }
        Ok(Self(teams))
    }

    /// See [`Hours::closed_until`]; a team that the settings do not name always works.
    pub fn closed_until(&self, team: &str, now: DateTime<Utc>) -> Option<Option<DateTime<Tz>>> {
        self.0.get(team)?.closed_until(now)
    }
}
