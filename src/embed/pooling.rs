//! From one vector a token to one vector a text.

use serde::Deserialize;

/// How token vectors become a text's vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pooling {
    Mean,
    /// Mean times the square root of the length.
    MeanSqrtLen,
    Cls,
    Max,
    LastToken,
}

/// `1_Pooling/config.json`, in both of its dialects.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PoolingConfig {
    pooling_mode: Option<String>,
    pooling_mode_cls_token: bool,
    pooling_mode_mean_tokens: bool,
    pooling_mode_max_tokens: bool,
    pooling_mode_mean_sqrt_len_tokens: bool,
    pooling_mode_weightedmean_tokens: bool,
    pooling_mode_lasttoken: bool,
}

impl Pooling {
    /// # Errors
    /// A mode that is not known, none, or several at once.
    pub fn from_config(config: &PoolingConfig) -> Result<Self, String> {
        if let Some(mode) = &config.pooling_mode {
            return match mode.as_str() {
                "mean" => Ok(Self::Mean),
                "mean_sqrt_len_tokens" => Ok(Self::MeanSqrtLen),
                "cls" => Ok(Self::Cls),
                "max" => Ok(Self::Max),
                "lasttoken" => Ok(Self::LastToken),
                other => Err(format!("pooling_mode `{other}` is not known (mean, cls, max, lasttoken are)")),
            };
        }
        if config.pooling_mode_weightedmean_tokens {
            return Err("weighted mean pooling is not supported".into());
        }
        let modes = [
            (config.pooling_mode_mean_tokens, Self::Mean),
            (config.pooling_mode_mean_sqrt_len_tokens, Self::MeanSqrtLen),
            (config.pooling_mode_cls_token, Self::Cls),
            (config.pooling_mode_max_tokens, Self::Max),
            (config.pooling_mode_lasttoken, Self::LastToken),
        ];
        let chosen: Vec<Self> = modes.iter().filter(|(on, _)| *on).map(|(_, mode)| *mode).collect();
        match chosen[..] {
            [mode] => Ok(mode),
            [] => Err("no pooling mode is switched on".into()),
            _ => Err("several pooling modes at once are not supported".into()),
        }
    }

    /// Pools `tokens` (row-major, `[length][width]`, padding left out). `length` is at least 1.
    pub fn pool(self, tokens: &[f32], width: usize) -> Vec<f32> {
        let length = tokens.len() / width;
        let divisor = match self {
            Self::Cls => return tokens[..width].to_vec(),
            Self::LastToken => return tokens[(length - 1) * width..].to_vec(),
            Self::Max => {
                let mut out = tokens[..width].to_vec();
                for row in tokens.chunks_exact(width).skip(1) {
                    out.iter_mut().zip(row).for_each(|(max, x)| *max = max.max(*x));
                }
                return out;
            }
            Self::Mean => length as f32,
            Self::MeanSqrtLen => (length as f32).sqrt(),
        };
        let mut sum = vec![0f32; width];
        for row in tokens.chunks_exact(width) {
            sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
        sum.iter_mut().for_each(|x| *x /= divisor);
        sum
    }
}

/// Divides a vector by its length; a zero vector stays as it is.
pub(super) fn l2_normalize(vector: &mut [f32]) {
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if norm > 1e-12 {
        vector.iter_mut().for_each(|x| *x /= norm);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pooling_does_what_its_name_says() {
        let tokens = [1.0, 2.0, 3.0, -4.0, 5.0, 8.0];
        assert_eq!(Pooling::Mean.pool(&tokens, 2), [3.0, 2.0]);
        assert_eq!(Pooling::Cls.pool(&tokens, 2), [1.0, 2.0]);
        assert_eq!(Pooling::Max.pool(&tokens, 2), [5.0, 8.0]);
        assert_eq!(Pooling::LastToken.pool(&tokens, 2), [5.0, 8.0]);
    }

    #[test]
    fn both_dialects_of_the_pooling_config_are_read_and_nonsense_is_refused() {
        let read = |json: &str| Pooling::from_config(&serde_json::from_str(json).unwrap());
        assert_eq!(read(r#"{"pooling_mode_cls_token": true}"#), Ok(Pooling::Cls));
        assert_eq!(read(r#"{"pooling_mode": "mean"}"#), Ok(Pooling::Mean));
        assert!(read(r#"{"pooling_mode_cls_token": true, "pooling_mode_max_tokens": true}"#).is_err());
        assert!(read("{}").is_err());
    }
}
