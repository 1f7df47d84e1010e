//! One label, seen by several experts: what the letters say, what the signs say, what the vector says, all of them
//! together, and what the nearest examples are. Each is a weak judge with faults of its own; what each is worth is learnt
//! from how they judged rows whose families were hidden from them ("stacking", Wolpert 1992).

use super::calibrate::sparing_threshold;
use super::gallery::{Catalogue, Placed};
use super::logistic::{Detector, Training, teach};
use super::nearest::Nearest;
use super::ngrams::{BUCKETS, Features};
use super::stack::Stack;

/// Probability nearest to sure that an expert may give, in logits.
const SUREST: f32 = 1e-4;

/// What an expert sees of a text.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
enum View {
    All,
    Letters,
    Signs,
    Vector,
}

const VIEWS: [View; 4] = [View::All, View::Letters, View::Signs, View::Vector];

/// A label's experts and the weights of their words.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Panel {
    pub label: String,
    experts: Vec<(View, Detector)>,
    nearest: Nearest,
    /// For texts with a vector, and for those without.
    seeing: Option<Stack>,
    blind: Stack,
    /// Probability from which the label counts as found.
    pub threshold: f32,
}

impl Panel {
    /// Learns from rows whose vectors are in the catalogue; `None` where no row has the label, or all have. See [`teach`].
    pub fn learn(
        rows: &[Training],
        label: &str,
        catalogue: &Catalogue,
        protected: impl Fn(&str) -> bool,
        share: f32,
        floor: f32,
    ) -> Option<Self> {
        Self::taught(rows, label, catalogue, protected, share, floor).map(|(panel, _)| panel)
    }

    /// The same, and what it says of each row as its experts judged it while the row's family was hidden from them.
    pub fn taught(
        rows: &[Training],
        label: &str,
        catalogue: &Catalogue,
        protected: impl Fn(&str) -> bool,
        share: f32,
        floor: f32,
    ) -> Option<(Self, Vec<f32>)> {
        let of_label = rows.iter().filter(|r| r.label == label).count();
        if of_label == 0 || of_label == rows.len() {
            return None;
        }
        let mut experts = Vec::new();
        let mut said: Vec<(View, Vec<f32>)> = Vec::new();
        for view in VIEWS {
            let seen: Vec<usize> = (0..rows.len()).filter(|&i| view.sees(&rows[i].features)).collect();
            let shown: Vec<Training> =
                seen.iter().map(|&i| Training { features: view.of(&rows[i].features), ..rows[i].clone() }).collect();
            let Some(taught) = teach(&shown, label, |_| true, 0.01, 0.5) else { continue };
            let mut held_out = vec![0.5; rows.len()];
            seen.iter().zip(&taught.held_out).for_each(|(&i, p)| held_out[i] = *p);
            experts.push((view, taught.detector));
            said.push((view, held_out));
        }
        let nearest = Nearest::of(rows, label, catalogue);
        let measures = |i: usize| {
            let row = &rows[i];
            let blind = row.features.dense.is_empty();
            let mut measures: Vec<f32> =
                said.iter().filter(|(view, _)| !(blind && *view == View::Vector)).map(|(_, p)| logit(p[i])).collect();
            let placed = catalogue.gallery.placed(&row.features.dense);
            measures.extend(nearest.leans(&row.features, &placed.likeness, Some(row.family)));
            measures
        };
        let all: Vec<Vec<f32>> = (0..rows.len()).map(measures).collect();
        let stack = |seeing: bool| {
            let of_kind = (0..rows.len()).filter(|&i| !seeing || !rows[i].features.dense.is_empty());
            let lessons: Vec<(Vec<f32>, bool)> = of_kind
                .map(|i| {
                    let mut measures = all[i].clone();
                    if !seeing && !rows[i].features.dense.is_empty() {
                        measures = without_vector(measures);
                    }
                    (measures, rows[i].label == label)
                })
                .collect();
            let lessons: Vec<(&[f32], bool)> = lessons.iter().map(|(m, y)| (m.as_slice(), *y)).collect();
            Stack::fit(&lessons, share, floor)
        };
        let (seeing, blind) = (stack(true), stack(false)?);
        let mut panel = Self { label: label.into(), experts, nearest, seeing, blind, threshold: floor };
        let spared = (0..rows.len()).filter(|&i| rows[i].label != label && protected(&rows[i].label));
        let held_out: Vec<f32> = all.iter().map(|measures| panel.weigh(measures)).collect();
        let spared: Vec<f32> = spared.map(|i| held_out[i]).collect();
        panel.threshold = sparing_threshold(&spared, share, floor);
        Some((panel, held_out))
    }

    /// Calibrated probability of the label: 0..1. `placed`: the text's vector as the panel's gallery sees it.
    pub fn probability(&self, features: &Features, placed: &Placed<'_>) -> f32 {
        if self.seeing.is_none() && !features.dense.is_empty() {
            return self.probability(&Features { dense: Vec::new(), ..features.clone() }, &Placed::default());
        }
        let heard = self.experts.iter().filter(|(view, _)| view.sees(features));
        let mut measures: Vec<f32> =
            heard.map(|(view, expert)| logit(expert.probability(&view.of(features)))).collect();
        measures.extend(self.nearest.leans(features, &placed.likeness, None));
        self.weigh(&measures)
    }

    fn weigh(&self, measures: &[f32]) -> f32 {
        match &self.seeing {
            Some(seeing) if measures.len() == WITH_VECTOR => seeing.probability(measures),
            None if measures.len() == WITH_VECTOR => self.blind.probability(&without_vector(measures.to_vec())),
            _ => self.blind.probability(measures),
        }
    }
}

/// Measures of a text with a vector: the four views, and what is nearest by letters and by the vector.
const WITH_VECTOR: usize = VIEWS.len() + 2;

/// The measures that need no vector.
fn without_vector(mut measures: Vec<f32>) -> Vec<f32> {
    measures.truncate(VIEWS.len() + 1);
    measures.remove(VIEWS.len() - 1);
    measures
}

impl View {
    fn sees(self, features: &Features) -> bool {
        self != Self::Vector || !features.dense.is_empty()
    }

    fn of(self, features: &Features) -> Features {
        let sign = |&&(bucket, _): &&(u32, f32)| bucket as usize >= BUCKETS;
        let sparse = features.sparse.iter();
        match self {
            Self::All => features.clone(),
            Self::Letters => Features { sparse: sparse.filter(|b| !sign(b)).copied().collect(), dense: Vec::new() },
            Self::Signs => Features { sparse: sparse.filter(sign).copied().collect(), dense: Vec::new() },
            Self::Vector => Features { sparse: Vec::new(), dense: features.dense.clone() },
        }
    }
}

fn logit(p: f32) -> f32 {
    let p = p.clamp(SUREST, 1.0 - SUREST);
    (p / (1.0 - p)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spam speaks of watches and points one way, the rest of widgets and the other way; without vectors on every third.
    fn rows() -> Vec<Training> {
        let row = |i: u32| {
            let spam = i % 2 == 0;
            let what = if spam { "cheap watches, buy now" } else { "where does the widget go" };
            let vector = if i % 3 == 0 { vec![] } else { vec![if spam { 1.0 } else { -1.0 }, (i % 7) as f32 / 20.0] };
            Training {
                features: Features::signed(&format!("{what} {i}"), &vector, &[if spam { 0.0 } else { 1.0 }]),
                label: if spam { "spam" } else { "ok" }.into(),
                family: i / 2,
            }
        };
        (0..120).map(row).collect()
    }

    #[test]
    fn experts_agree_on_a_text_with_a_vector_and_on_one_without() {
        let rows = rows();
        let catalogue = Catalogue::of(rows.iter().map(|r| r.features.dense.as_slice()));
        let panel = Panel::learn(&rows, "spam", &catalogue, |l| l == "ok", 0.01, 0.5).expect("both labels are there");
        let found = |text: &str, vector: &[f32], sign: f32| {
            let features = Features::signed(text, vector, &[sign]);
            panel.probability(&features, &catalogue.gallery.placed(vector)) >= panel.threshold
        };
        assert!(found("buy cheap watches", &[], 0.0) && !found("the widget does not go", &[], 1.0));
        assert!(found("buy cheap watches", &[1.0, 0.1], 0.0) && !found("the widget does not go", &[-1.0, 0.1], 1.0));
        assert!(found("zegarki", &[1.0, 0.1], 0.0), "the vector knows what the letters do not");
    }

    #[test]
    fn a_label_without_vectors_is_found_in_texts_that_have_one() {
        let blind: Vec<Training> = rows().into_iter().filter(|r| r.features.dense.is_empty()).collect();
        let catalogue = Catalogue::default();
        let panel = Panel::learn(&blind, "spam", &catalogue, |l| l == "ok", 0.01, 0.5).expect("both labels are there");
        let of = |vector: &[f32]| {
            let features = Features::signed("buy cheap watches", vector, &[0.0]);
            panel.probability(&features, &catalogue.gallery.placed(vector))
        };
        assert_eq!(of(&[1.0, 0.0]), of(&[]));
    }

    #[test]
    fn of_one_label_nothing_is_learnt() {
        let none = Catalogue::default();
        let spam: Vec<Training> = rows().into_iter().filter(|r| r.label == "spam").collect();
        assert!(Panel::learn(&spam, "spam", &none, |_| true, 0.01, 0.5).is_none());
        assert!(Panel::learn(&spam, "missing", &none, |_| true, 0.01, 0.5).is_none());
        assert!(Panel::learn(&[], "spam", &none, |_| true, 0.01, 0.5).is_none());
    }
}
