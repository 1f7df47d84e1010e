//! Small learned classifiers over vectors and character n-grams, calibrated. Knows nothing of where examples come from.
