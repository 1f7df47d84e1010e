//! How surprising a text's letters are: a character trigram model that tells words from keyboard mashing.

use std::collections::HashMap;

/// Counts of character trigrams inside words, per alphabet mix as met in the texts it was trained on.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct CharModel {
    trigrams: HashMap<[char; 3], u32>,
    bigrams: HashMap<[char; 2], u32>,
    words: std::collections::HashSet<String>,
}

/// Size of the alphabet assumed for unseen characters.
const ALPHABET: f32 = 60.0;

impl CharModel {
    /// Learns from honest texts.
    pub fn train<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let mut model = Self::default();
        for word in texts.flat_map(words_of) {
            let chars = padded(&word);
            for gram in chars.windows(3) {
                *model.trigrams.entry([gram[0], gram[1], gram[2]]).or_default() += 1;
                *model.bigrams.entry([gram[0], gram[1]]).or_default() += 1;
            }
            model.words.insert(word);
        }
        model
    }

    /// Mean negative log-probability of a letter (nats) over the words that the model has never met; known words
    /// count as `0.8`. About 2 for words, above 3.5 for mashed keys. `None` where there are no letters.
    pub fn surprise(&self, text: &str) -> Option<f32> {
        let (mut sum, mut letters) = (0.0, 0usize);
        for word in words_of(text) {
            let count = word.chars().count() + 1;
            letters += count;
            if self.words.contains(&word) {
                sum += 0.8 * count as f32;
                continue;
            }
            for gram in padded(&word).windows(3) {
                let seen = *self.trigrams.get(&[gram[0], gram[1], gram[2]]).unwrap_or(&0) as f32;
                let context = *self.bigrams.get(&[gram[0], gram[1]]).unwrap_or(&0) as f32;
                sum -= ((seen + 0.05) / (context + 0.05 * ALPHABET)).ln();
            }
        }
        (letters > 0).then(|| sum / letters as f32)
    }

    /// True where the word was in the training texts.
    pub fn knows(&self, word: &str) -> bool {
        self.words.contains(word)
    }
}

fn words_of(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphabetic()).filter(|w| !w.is_empty()).map(str::to_lowercase)
}

fn padded(word: &str) -> Vec<char> {
    ['^', '^'].into_iter().chain(word.chars()).chain(std::iter::once('$')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mashed_keys_surprise_more_than_new_words() {
        let texts = [
            "how do i change the color of the chat button in the settings of the widget",
            "where can an agent find invoices and change the payment method of the workspace",
            "как изменить цвет кнопки чата в настройках виджета и где найти счета",
        ];
        let model = CharModel::train(texts.into_iter());
        let new_words = model.surprise("changing colors of chatting").unwrap();
        assert!(new_words < model.surprise("sdkfjhsdkjfh wqpeoriu zxmcnb").unwrap());
        assert_eq!(model.surprise("123 !!!"), None);
    }
}
