-- Suggestions look at the few turns without a good answer; before, they read all turns of two months.
CREATE INDEX turns_unanswered ON turns (at_ms) WHERE kind IN ('no_answer', 'wants_person', 'anger', 'repeated_failure');
