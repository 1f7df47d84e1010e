//! When a team works, and what a customer is told about that.

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, TimeZone, Utc, Weekday};
use chrono_tz::Tz;

use crate::config::TeamSettings;

/// Days looked ahead for the next opening.
const LOOK_AHEAD_DAYS: u64 = 21;

/// A team's working hours; a team without any always works.
#[derive(Debug, Clone)]
pub struct Hours {
    zone: Tz,
    spans: Vec<Span>,
    holidays: Vec<NaiveDate>,
}

/// Some days of the week, from one time of the day until another (exclusive; `24:00` is the day's end).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    days: [bool; 7],
    from_minute: u32,
    until_minute: u32,
}

impl Hours {
    /// Reads `desk.teams[].hours`, e.g. `mon-fri 09:00-18:00`.
    ///
    /// # Errors
    /// What cannot be read, with an example of what can.
    pub fn read(team: &TeamSettings) -> Result<Self, String> {
        let name = &team.name;
        let zone: Tz = team.timezone.parse().map_err(|_| {
            format!("desk.teams {name:?}: timezone {:?} is not known; write e.g. \"Europe/Berlin\"", team.timezone)
        })?;
        let spans = team.hours.iter().map(|text| {
            let example = "write e.g. \"mon-fri 09:00-18:00\" or \"sat 10:00-14:00\"";
            span(text).ok_or_else(|| format!("desk.teams {name:?}: the hours {text:?} cannot be read; {example}"))
        });
        let holidays = team.holidays.iter().map(|text| {
            let read = NaiveDate::parse_from_str(text, "%Y-%m-%d");
            read.map_err(|_| format!("desk.teams {name:?}: the holiday {text:?} is no date; write e.g. \"2027-01-01\""))
        });
        Ok(Self { zone, spans: spans.collect::<Result<_, _>>()?, holidays: holidays.collect::<Result<_, _>>()? })
    }

    /// `None` while the team works, else when it opens next (`Some(None)`: not within three weeks).
    pub fn closed_until(&self, now: DateTime<Utc>) -> Option<Option<DateTime<Tz>>> {
        if self.spans.is_empty() {
            return None;
        }
        let local = now.with_timezone(&self.zone);
        let minute = local.time().signed_duration_since(NaiveTime::MIN).num_minutes();
        let minute = u32::try_from(minute).unwrap_or(0);
        let today = local.date_naive();
        if self.spans_of(today).any(|span| (span.from_minute..span.until_minute).contains(&minute)) {
            return None;
        }
        let days = (0..=LOOK_AHEAD_DAYS).filter_map(|n| today.checked_add_days(Days::new(n)));
        let openings = days.flat_map(|day| self.spans_of(day).map(move |span| (day, span.from_minute)));
        Some(openings.filter_map(|(day, from)| self.at(day, from)).filter(|at| *at > local).min())
    }

    fn spans_of(&self, day: NaiveDate) -> impl Iterator<Item = &Span> {
        let works = !self.holidays.contains(&day);
        let weekday = day.weekday().num_days_from_monday() as usize;
        self.spans.iter().filter(move |span| works && span.days.get(weekday).copied().unwrap_or(false))
    }

    /// `None` for a time that a change of clocks leaves out.
    fn at(&self, day: NaiveDate, minute: u32) -> Option<DateTime<Tz>> {
        self.zone.from_local_datetime(&day.and_hms_opt(minute / 60, minute % 60, 0)?).earliest()
    }
}

fn span(text: &str) -> Option<Span> {
    let (days, times) = text.trim().split_once(char::is_whitespace)?;
    let (from, until) = times.trim().split_once('-')?;
    let (from_minute, until_minute) = (minute(from)?, minute(until)?);
    let mut span = Span { days: [false; 7], from_minute, until_minute };
    for part in days.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<Weekday>().ok()?, last.trim().parse::<Weekday>().ok()?);
        let mut day = first;
        loop {
            *span.days.get_mut(day.num_days_from_monday() as usize)? = true;
            if day == last {
                break;
            }
            day = day.succ();
        }
    }
    (from_minute < until_minute).then_some(span)
}

fn minute(text: &str) -> Option<u32> {
    let (hour, minute) = text.trim().split_once(':')?;
    let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
    ((hour < 24 && minute < 60) || (hour == 24 && minute == 0)).then_some(hour * 60 + minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(spans: &[&str]) -> Hours {
        let team = TeamSettings {
            name: "support".into(),
            timezone: "Europe/Berlin".into(),
            hours: spans.iter().map(|s| s.to_string()).collect(),
            holidays: vec!["2026-11-23".into()],
        };
        Hours::read(&team).unwrap()
    }

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_team_works_within_its_hours_in_its_own_zone() {
        let hours = hours(&["mon-fri 09:00-18:00"]);
        // Friday; Berlin is an hour ahead in winter.
        assert_eq!(hours.closed_until(utc("2026-11-20T08:00:00Z")), None);
        assert_eq!(hours.closed_until(utc("2026-11-20T16:59:00Z")), None);
        assert!(hours.closed_until(utc("2026-11-20T17:00:00Z")).is_some());
        assert!(hours.closed_until(utc("2026-11-20T07:59:00Z")).is_some());
    }

    #[test]
    fn the_next_opening_skips_the_weekend_and_holidays() {
        let opens = hours(&["mon-fri 09:00-18:00"]).closed_until(utc("2026-11-20T18:00:00Z")).unwrap().unwrap();
        assert_eq!(opens.to_rfc3339(), "2026-11-24T09:00:00+01:00");
    }

    #[test]
    fn several_spans_and_days_over_the_weeks_end_are_read() {
        assert_eq!(span("fri-mon 08:00-24:00").unwrap().days, [true, false, false, false, true, true, true]);
        assert_eq!(span("sat,sun 10:00-14:00").unwrap().days, [false, false, false, false, false, true, true]);
        for wrong in ["mon", "mon 9-18", "mon 18:00-09:00", "xyz 09:00-18:00", "mon 09:00-25:00", ""] {
            assert_eq!(span(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn no_hours_are_all_hours() {
        assert_eq!(hours(&[]).closed_until(utc("2026-11-21T03:00:00Z")), None);
    }

    #[test]
    fn faults_are_named_with_what_to_write() {
        let team = TeamSettings { name: "a".into(), timezone: "Mars".into(), ..TeamSettings::default() };
        assert!(Hours::read(&team).unwrap_err().contains("Mars"));
        let team = TeamSettings { name: "a".into(), hours: vec!["always".into()], ..TeamSettings::default() };
        assert!(Hours::read(&team).unwrap_err().contains("mon-fri 09:00-18:00"));
    }
}
