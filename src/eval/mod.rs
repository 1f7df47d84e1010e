//! Replaying dialogues whose outcome is known.
