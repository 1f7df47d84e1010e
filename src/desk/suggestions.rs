//! Suggestions: questions that had no answer, ended with a person or were answered wrongly, put together, each with a
//! draft from what a person wrote. One click makes it an entry.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;
use serde::Serialize;

use super::cluster::{self, Question};
use super::knowledge::{Curator, Edit, EditError, Written, blocking};
use crate::embed::{Embedder, Role};
use crate::kb::detect_lang;
use crate::store::knowledge::{Changed, Judged};
use crate::store::suggestions::{Unanswered, WhyUnanswered};
use crate::text;

/// How far back is looked.
const SINCE_MS: i64 = 60 * 86_400_000;
/// Most messages that are weighed.
const MESSAGES: i64 = 1_000;
const EXAMPLES: usize = 5;
/// Texts embedded at a time, so that other requests get their turn.
const BATCH: usize = 64;

/// Vectors of messages by their turn, so that each is embedded once.
#[derive(Default)]
pub struct Vectors(Mutex<HashMap<String, Question>>);

/// A suggestion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Suggestion {
    pub id: String,
    pub question: String,
    /// How many messages asked so.
    pub count: usize,
    pub examples: Vec<Example>,
    pub draft: Draft,
    /// `no_answer`, `handoff`, `marked_wrong`: the strongest of its messages.
    pub reason: &'static str,
    pub since_ms: i64,
    #[serde(skip)]
    turns: Vec<String>,
}

/// A message behind a suggestion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Example {
    pub conversation_id: String,
    pub text: String,
}

/// What the entry would be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Draft {
    pub question: String,
    /// Empty where no person has answered.
    pub answer: String,
    pub lang: String,
}

impl Curator {
    /// All suggestions, the most asked first.
    ///
    /// # Errors
    /// The database or the embedding model fails.
    pub async fn suggestions(&self) -> Result<Vec<Suggestion>, EditError> {
        let since = chrono::Utc::now().timestamp_millis() - SINCE_MS;
        let mut unanswered = self.store.open_questions(since, MESSAGES).await?;
        // The oldest found groups, so that a group keeps its name as it grows.
        unanswered.reverse();
        let languages = self.knowledge.snapshot().pack().company.languages.clone();
        let (vectors, embedder) = (self.vectors.clone(), self.embedder.clone());
        blocking(move || {
            let questions = vectors.of(&unanswered, &embedder, &languages)?;
            Ok(cluster::groups(&questions).iter().map(|group| suggestion(group, &questions, &unanswered)).collect())
        })
        .await?
    }

    /// Reads the questions of the last weeks once, so that the first person who looks at the suggestions need not wait.
    pub async fn read_ahead(self) {
        if let Err(error) = self.suggestions().await {
            tracing::warn!(%error, "the suggestions could not be prepared");
        }
    }

    /// Makes a suggestion an entry. Asked twice, it is made once.
    ///
    /// # Errors
    /// An unknown suggestion; a faulty entry.
    pub async fn accept(&self, author: &str, id: &str, edit: Edit) -> Result<Written, EditError> {
        let change = self.answer_to(author, edit).await?;
        let item = change.item.clone();
        let turns = self.turns_of(id).await?;
        match self.store.judge_suggestion(id, author, &turns, Some(&change)).await? {
            Judged::Now(Changed::As(_)) | Judged::Before(Some(_)) => Ok(self.publish(item).await),
            Judged::Now(Changed::Stale(_)) => Err(EditError::Stale),
            Judged::Before(None) => {
                let reason = "somebody has dismissed this suggestion".to_string();
                Err(EditError::Invalid { field: "id", reason })
            }
        }
    }

    /// Puts a suggestion away.
    ///
    /// # Errors
    /// An unknown suggestion.
    pub async fn dismiss(&self, author: &str, id: &str) -> Result<(), EditError> {
        let turns = self.turns_of(id).await?;
        self.store.judge_suggestion(id, author, &turns, None).await?;
        Ok(())
    }

    /// The turns that a suggestion stands for; of one that was judged before, none.
    async fn turns_of(&self, id: &str) -> Result<Vec<String>, EditError> {
        match self.suggestions().await?.into_iter().find(|s| s.id == id) {
            Some(suggestion) => Ok(suggestion.turns),
            None if self.store.is_judged(id).await? => Ok(Vec::new()),
            None => Err(EditError::Unknown(id.to_string())),
        }
    }
}

impl Vectors {
    fn of(
        &self,
        unanswered: &[Unanswered],
        embedder: &Embedder,
        languages: &[String],
    ) -> Result<Vec<Question>, EditError> {
        // Whoever asks meanwhile waits for these vectors instead of making them again.
        let mut known = self.0.lock();
        let wanted: HashSet<&str> = unanswered.iter().map(|u| u.turn_id.as_str()).collect();
        known.retain(|turn, _| wanted.contains(turn.as_str()));
        let new: Vec<&Unanswered> = unanswered.iter().filter(|u| !known.contains_key(&u.turn_id)).collect();
        let texts: Vec<(&str, Option<&str>)> = new.iter().map(|u| (u.question.as_str(), u.lang.as_deref())).collect();
        let read = questions(&texts, embedder, languages)?;
        known.extend(new.iter().map(|u| u.turn_id.clone()).zip(read));
        Ok(unanswered.iter().map(|u| known.get(&u.turn_id).cloned().unwrap_or_default()).collect())
    }
}

/// Texts ready to be compared: (text, language where known). Blocking.
///
/// # Errors
/// The embedding model fails.
pub fn questions(
    texts: &[(&str, Option<&str>)],
    embedder: &Embedder,
    languages: &[String],
) -> Result<Vec<Question>, EditError> {
    let mut questions: Vec<Question> = texts
        .iter()
        .map(|(words, lang)| Question {
            text: words.to_string(),
            lang: lang.filter(|l| !l.is_empty()).map_or_else(|| detect_lang(words, languages), str::to_string),
            vector: Vec::new(),
            stems: text::content_stems(words).into_iter().collect(),
        })
        .collect();
    let readable: Vec<usize> = (0..questions.len()).filter(|at| embedder.reads(&questions[*at].lang)).collect();
    for batch in readable.chunks(BATCH) {
        let texts: Vec<&str> = batch.iter().map(|at| texts[*at].0).collect();
        let embedded = embedder.embed(&texts, Role::Query).map_err(crate::kb::KbError::from)?;
        for (at, vector) in batch.iter().zip(embedded.vectors) {
            questions[*at].vector = vector;
        }
    }
    Ok(questions)
}

fn suggestion(group: &[usize], questions: &[Question], unanswered: &[Unanswered]) -> Suggestion {
    let members: Vec<&Unanswered> = group.iter().map(|at| &unanswered[*at]).collect();
    let speaker = cluster::spokesman(group, questions).unwrap_or(group[0]);
    let why = members.iter().map(|m| m.reason).max().unwrap_or(WhyUnanswered::NoAnswer);
    // What was called right comes before what was merely said; the latest of those.
    let draft = members.iter().filter(|m| m.draft.is_some()).max_by_key(|m| m.reason);
    let question = questions[speaker].text.trim().to_string();
    Suggestion {
        id: format!("s-{}", members[0].turn_id),
        count: members.len(),
        examples: members
            .iter()
            .take(EXAMPLES)
            .map(|m| Example { conversation_id: m.conversation_id.clone(), text: m.question.clone() })
            .collect(),
        draft: Draft {
            question: question.clone(),
            answer: draft.and_then(|m| m.draft.clone()).unwrap_or_default(),
            lang: questions[speaker].lang.clone(),
        },
        question,
        reason: match why {
            WhyUnanswered::NoAnswer => "no_answer",
            WhyUnanswered::Handoff => "handoff",
            WhyUnanswered::MarkedWrong => "marked_wrong",
        },
        since_ms: members.iter().map(|m| m.since_ms).min().unwrap_or(0),
        turns: members.iter().map(|m| m.turn_id.clone()).collect(),
    }
}
