//! Which operator serves, and which version of its instruction.

use super::SupportError;
use super::text;
use crate::kb::pack::{Operator, Pack};

/// What routing knows of a turn.
#[derive(Debug, Clone, Default)]
pub struct Routing<'a> {
    /// Named by the request.
    pub named: Option<&'a str>,
    /// Served the conversation before.
    pub before: Option<&'a str>,
    pub channel: Option<&'a str>,
    pub audience: Option<&'a str>,
    pub lang: &'a str,
    pub message: &'a str,
    /// The message is for another company.
    pub wrong_company: bool,
}

/// The audience of those who take us for another company.
pub const WRONG_COMPANY: &str = "wrong_company";

/// The operator that serves this turn, and why.
///
/// # Errors
/// An unknown name, with those that exist; a pack without operators.
pub fn choose<'p>(pack: &'p Pack, routing: &Routing<'_>) -> Result<(&'p Operator, String), SupportError> {
    let by_name = |name: &str| pack.operators.iter().find(|o| o.name == name);
    if let Some(name) = routing.named {
        let known = || pack.operators.iter().map(|o| o.name.as_str()).collect::<Vec<_>>().join(", ");
        return by_name(name)
            .map(|o| (o, format!("the request names {name}")))
            .ok_or_else(|| SupportError::UnknownOperator { name: name.into(), known: known() });
    }
    let serves_audience = |o: &Operator, audience: &str| o.audiences.iter().any(|a| a == audience);
    if routing.wrong_company
        && let Some(operator) = pack.operators.iter().find(|o| serves_audience(o, WRONG_COMPANY))
    {
        return Ok((operator, "the message is meant for another company".into()));
    }
    let fits = |o: &&Operator| {
        let channel = o.channels.is_empty() || routing.channel.is_some_and(|c| o.channels.iter().any(|x| x == c));
        let audience = o.audiences.is_empty() || routing.audience.is_some_and(|a| serves_audience(o, a));
        let language = o.languages.is_empty() || o.languages.iter().any(|l| l == routing.lang);
        channel && audience && language
    };
    // Whoever served stays, unless that was for another company and this message is for us.
    if let Some(before) = routing.before.and_then(by_name)
        && (fits(&before) || (serves_audience(before, WRONG_COMPANY) && routing.wrong_company))
    {
        return Ok((before, format!("{} has served this conversation", before.name)));
    }
    let stems = text::stems(routing.message);
    let score = |o: &Operator| -> (usize, usize, usize, bool) {
        let audience = usize::from(!o.audiences.is_empty());
        let channel = usize::from(!o.channels.is_empty());
        let topics = o.topics.iter().filter(|t| text::stems(t).iter().all(|s| stems.contains(s))).count();
        (audience, channel, if o.default { topics + 1 } else { topics }, o.default)
    };
    let best = pack.operators.iter().filter(fits).max_by_key(|o| score(o));
    let operator = best.or_else(|| pack.operators.iter().find(|o| o.default)).or_else(|| pack.operators.first());
    let operator = operator.ok_or_else(|| SupportError::InvalidRequest("the knowledge pack has no operator".into()))?;
    let (audience, channel, _, default) = score(operator);
    let why = match (audience, channel, default) {
        (1, _, _) => format!("serves the audience {}", routing.audience.unwrap_or_default()),
        (_, 1, _) => format!("serves the channel {}", routing.channel.unwrap_or_default()),
        (_, _, true) => "the default operator".into(),
        _ => "its topics fit best".into(),
    };
    Ok((operator, why))
}

/// The version of the operator's instruction for a conversation: the one it began with, else by its shares, so that
/// one conversation always meets the same version.
pub fn version(operator: &Operator, conversation_id: &str, before: Option<&str>) -> String {
    if let Some(before) = before.filter(|v| operator.versions.contains_key(*v)) {
        return before.to_string();
    }
    let total: f32 = operator.shares.values().filter(|s| **s > 0.0).sum();
    if total <= 0.0 {
        return operator.active_version.clone();
    }
    let hash = blake3::hash(format!("{}\0{conversation_id}", operator.name).as_bytes());
    let bytes: [u8; 4] = [hash.as_bytes()[0], hash.as_bytes()[1], hash.as_bytes()[2], hash.as_bytes()[3]];
    let mut point = u32::from_le_bytes(bytes) as f32 / u32::MAX as f32 * total;
    for (version, share) in operator.shares.iter().filter(|(v, s)| **s > 0.0 && operator.versions.contains_key(*v)) {
        if point <= *share {
            return version.clone();
        }
        point -= share;
    }
    operator.active_version.clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kb::pack::Instruction;

    fn operator(name: &str, audience: &[&str]) -> Operator {
        Operator {
            name: name.into(),
            audiences: audience.iter().map(|a| a.to_string()).collect(),
            default: audience.is_empty(),
            active_version: "v1".into(),
            ..Default::default()
        }
    }

    fn pack() -> Pack {
        Pack {
            operators: vec![
                operator("igor", &[]),
                operator("greta", &["wrong_company"]),
                operator("max", &["free_plan"]),
            ],
            ..Default::default()
        }
    }

    fn chosen(routing: Routing<'_>) -> String {
        choose(&pack(), &routing).unwrap().0.name.clone()
    }

    #[test]
    fn routing_follows_name_audience_and_the_wrong_company_verdict() {
        assert_eq!(chosen(Routing::default()), "igor");
        assert_eq!(chosen(Routing { named: Some("max"), ..Default::default() }), "max");
        assert_eq!(chosen(Routing { audience: Some("free_plan"), ..Default::default() }), "max");
        assert_eq!(chosen(Routing { wrong_company: true, ..Default::default() }), "greta");
        assert_eq!(chosen(Routing { before: Some("greta"), ..Default::default() }), "igor");
        assert_eq!(chosen(Routing { before: Some("max"), audience: Some("free_plan"), ..Default::default() }), "max");
    }

    #[test]
    fn an_unknown_operator_is_an_error_that_names_the_known() {
        let error = choose(&pack(), &Routing { named: Some("bob"), ..Default::default() }).unwrap_err().to_string();
        assert!(error.contains("bob") && error.contains("igor, greta, max"));
    }

    #[test]
    fn one_conversation_always_meets_the_same_version_and_shares_hold() {
        let mut operator = operator("igor", &[]);
        for (v, share) in [("v1", 0.8), ("v2", 0.2)] {
            operator.versions.insert(v.into(), Instruction::default());
            operator.shares.insert(v.into(), share);
        }
        let second = (0..2000).filter(|i| version(&operator, &format!("c{i}"), None) == "v2").count();
        assert!((300..500).contains(&second), "{second}");
        assert_eq!(version(&operator, "c1", None), version(&operator, "c1", None));
        assert_eq!(version(&operator, "c1", Some("v2")), "v2");
    }
}
