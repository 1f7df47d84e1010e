-- Messages whose question the knowledge should have answered, newest first: $1 since (ms), $2 at most.
WITH asked AS (
    -- nothing fitted: the message itself; a person was wanted: the question before that
    SELECT t.conversation_id, t.at_ms,
           CASE WHEN t.kind = 'no_answer' THEN t.id
                ELSE (SELECT q.id FROM turns q
                       WHERE q.conversation_id = t.conversation_id AND q.number < t.number
                         AND q.action IN ('answer', 'clarify')
                         AND q.kind NOT IN ('wants_person', 'anger', 'greeting', 'thanks', 'goodbye', 'off_topic',
                                            'wrong_company')
                       ORDER BY q.number DESC LIMIT 1) END AS turn_id,
           CASE WHEN t.action = 'handoff' THEN 2 ELSE 1 END AS weight,
           NULL AS right_answer
      FROM turns t
     WHERE t.at_ms >= $1
       -- as the index turns_unanswered says it
       AND t.kind IN ('no_answer', 'wants_person', 'anger', 'repeated_failure')
       AND ((t.action IN ('clarify', 'handoff') AND t.kind = 'no_answer')
         OR (t.action = 'handoff' AND t.kind IN ('wants_person', 'anger', 'repeated_failure')))
    UNION ALL
    SELECT t.conversation_id, m.at_ms, t.id, 3, m.right_answer
      FROM marks m JOIN turns t ON t.id = m.turn_id
     WHERE m.at_ms >= $1 AND m.wrong = 1
       AND m.at_ms = (SELECT MAX(at_ms) FROM marks WHERE turn_id = m.turn_id)
),
once AS (
    SELECT turn_id, conversation_id, MIN(at_ms) AS since_ms, MAX(weight) AS weight, MAX(right_answer) AS right_answer
      FROM asked WHERE turn_id IS NOT NULL GROUP BY turn_id, conversation_id
)
SELECT o.turn_id, o.conversation_id, o.since_ms, o.weight, x.customer, t.state ->> 'lang' AS lang,
       COALESCE(o.right_answer,
                (SELECT p.text FROM messages p
                  WHERE p.conversation_id = o.conversation_id AND p.sender = 'person' AND p.at_ms >= o.since_ms
                  ORDER BY LENGTH(p.text) DESC LIMIT 1)) AS draft
  FROM once o
  JOIN turns t ON t.id = o.turn_id
  JOIN texts x ON x.turn_id = o.turn_id
 WHERE NOT EXISTS (SELECT 1 FROM suggestion_turns s WHERE s.turn_id = o.turn_id)
   AND NOT EXISTS (SELECT 1 FROM events e WHERE e.conversation_id = o.conversation_id AND e.kind = 'closed'
                                            AND e.body ->> 'as' = 'spam')
 ORDER BY o.since_ms DESC LIMIT $2
