//! Responses in memory, each for the key that asked. The oldest go when there are too many or too large.

use std::collections::VecDeque;

use parking_lot::Mutex;
use serde_json::Value;

use super::super::wire::items::Output;

/// The last responses, newest at the end.
pub struct KeptResponses {
    kept: Mutex<VecDeque<Kept>>,
    most: usize,
    most_bytes: usize,
}

struct Kept {
    id: String,
    key_name: String,
    /// Chat messages up to and with the answer.
    transcript: Vec<Value>,
    response: Value,
    bytes: usize,
}

impl KeptResponses {
    /// Keeps `most` responses, of `most_bytes` together.
    pub fn new(most: usize, most_bytes: usize) -> Self {
        Self { kept: Mutex::default(), most, most_bytes }
    }

    /// Keeps a response behind `transcript`, with the chat messages that `output` adds to it.
    pub fn keep(&self, key_name: &str, mut transcript: Vec<Value>, output: &Output, response: Value) {
        transcript.push(output.as_message());
        let bytes = response.to_string().len() + transcript.iter().map(|m| m.to_string().len()).sum::<usize>();
        let id = response["id"].as_str().unwrap_or_default().to_string();
        let mut kept = self.kept.lock();
        kept.push_back(Kept { id, key_name: key_name.into(), transcript, response, bytes });
        let mut total: usize = kept.iter().map(|kept| kept.bytes).sum();
        while kept.len() > self.most || total > self.most_bytes {
            total -= kept.pop_front().map_or(total, |oldest| oldest.bytes);
        }
    }

    /// The chat messages up to and with this response.
    pub fn transcript(&self, id: &str, key_name: &str) -> Option<Vec<Value>> {
        self.find(id, key_name, |kept| kept.transcript.clone())
    }

    pub fn get(&self, id: &str, key_name: &str) -> Option<Value> {
        self.find(id, key_name, |kept| kept.response.clone())
    }

    /// True if it was there.
    pub fn forget(&self, id: &str, key_name: &str) -> bool {
        let mut kept = self.kept.lock();
        let before = kept.len();
        kept.retain(|kept| kept.id != id || kept.key_name != key_name);
        kept.len() < before
    }

    fn find<T>(&self, id: &str, key_name: &str, take: impl Fn(&Kept) -> T) -> Option<T> {
        self.kept.lock().iter().find(|kept| kept.id == id && kept.key_name == key_name).map(take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_response_is_kept_for_its_key_until_newer_ones_take_its_place() {
        let kept = KeptResponses::new(2, 10_000);
        for id in ["a", "b", "c"] {
            kept.keep("shop", vec![json!({"role": "user", "content": id})], &Output::default(), json!({"id": id}));
        }
        assert!(kept.get("a", "shop").is_none() && kept.get("c", "other").is_none());
        assert_eq!(kept.transcript("c", "shop").unwrap().len(), 2);
        assert!(kept.forget("c", "shop") && !kept.forget("c", "shop"));
        kept.keep("shop", vec![json!("x".repeat(20_000))], &Output::default(), json!({"id": "large"}));
        assert!(kept.get("large", "shop").is_none() && kept.get("b", "shop").is_none());
    }
}
