-- Derives the figures of every group named in figures_stale from its turns and events.
WITH talk AS (
    -- each message of a customer, and what it was about
    SELECT c.group_id, c.channel, c.started_ms, t.id, t.at_ms, t.number, t.operator, t.operator_version,
           t.action, t.kind, t.first_token_ms, t.total_ms,
           CASE WHEN t.action = 'filtered'                        THEN 'filtered'
                WHEN t.kind IN ('greeting', 'thanks', 'goodbye')  THEN 'courtesy'
                WHEN t.kind IN ('wrong_company', 'off_topic')     THEN t.kind
                ELSE 'request' END AS about
      FROM figures_stale s
      JOIN conversations c ON c.group_id = s.group_id
      JOIN turns t ON t.conversation_id = c.id
),
numbered AS (
    SELECT talk.*,
           ROW_NUMBER() OVER (PARTITION BY group_id ORDER BY at_ms, number, id) AS nth,
           ROW_NUMBER() OVER (PARTITION BY group_id ORDER BY at_ms DESC, number DESC, id DESC) AS from_end,
           ROW_NUMBER() OVER (PARTITION BY group_id, about ORDER BY at_ms DESC, number DESC, id DESC) AS from_end_of_kind,
           CASE WHEN action IN ('answer', 'clarify', 'handoff')
                THEN ROW_NUMBER() OVER (PARTITION BY group_id, action IN ('answer', 'clarify', 'handoff')
                                        ORDER BY at_ms, number, id) END AS nth_answered,
           CASE WHEN action = 'handoff'
                THEN ROW_NUMBER() OVER (PARTITION BY group_id, action ORDER BY at_ms, number, id) END AS nth_handoff
      FROM talk
),
said AS (
    SELECT c.group_id, e.at_ms, e.kind, e.body,
           ROW_NUMBER() OVER (PARTITION BY c.group_id, e.kind ORDER BY e.at_ms DESC, e.id DESC) AS from_end_of_kind
      FROM figures_stale s
      JOIN conversations c ON c.group_id = s.group_id
      JOIN events e ON e.conversation_id = c.id
     WHERE e.kind IN ('owner', 'person_reply', 'closed', 'solved')
),
people AS (
    SELECT group_id,
           MAX(CASE WHEN kind = 'owner' AND body ->> 'to' IN ('waiting', 'person') THEN 1
                    WHEN kind = 'person_reply' THEN 1 ELSE 0 END) AS took_part,
           MIN(CASE WHEN kind = 'person_reply' THEN at_ms END) AS first_reply_ms,
           MAX(CASE WHEN kind = 'closed' AND from_end_of_kind = 1 AND body ->> 'as' = 'spam' THEN 1 ELSE 0 END) AS spam,
           MAX(CASE WHEN kind = 'solved' AND from_end_of_kind = 1
                    THEN CASE WHEN body ->> 'solved' IN ('true', 1) THEN 1 ELSE 0 END END) AS said_solved,
           MAX(at_ms) AS last_ms
      FROM said GROUP BY group_id
),
grouped AS (
    SELECT group_id, MIN(started_ms) AS started_ms, MAX(at_ms) AS last_ms, MIN(channel) AS channel,
           MAX(CASE WHEN about = 'request' THEN nth ELSE 0 END) AS last_request,
           COUNT(*) AS messages,
           CASE MAX(CASE about WHEN 'request' THEN 5 WHEN 'wrong_company' THEN 4 WHEN 'off_topic' THEN 3
                               WHEN 'filtered' THEN 2 ELSE 1 END)
                WHEN 5 THEN 'request' WHEN 4 THEN 'wrong_company' WHEN 3 THEN 'off_topic'
                WHEN 2 THEN 'filtered' ELSE 'courtesy' END AS subject,
           MAX(CASE WHEN action = 'handoff' THEN 1 ELSE 0 END) AS handed_off,
           SUM(CASE WHEN action = 'human' THEN 0 ELSE total_ms END) AS busy_ms
      FROM numbered GROUP BY group_id
)
INSERT INTO conversation_figures
       (group_id, started_ms, last_ms, channel, operator, operator_version, subject, person, handoff_kind, said_solved,
        answered_last, turns, first_token_ms, full_answer_ms, person_reply_ms, busy_ms)
SELECT g.group_id,
       g.started_ms,
       CASE WHEN p.last_ms > g.last_ms THEN p.last_ms ELSE g.last_ms END,
       g.channel,
       COALESCE(request.operator, latest.operator),
       COALESCE(request.operator_version, latest.operator_version),
       CASE WHEN p.spam = 1 THEN 'filtered' ELSE g.subject END,
       CASE WHEN g.handed_off = 1 OR p.took_part = 1 THEN 1 ELSE 0 END,
       CASE WHEN handoff.kind IS NOT NULL THEN handoff.kind WHEN p.took_part = 1 THEN 'taken_over' END,
       p.said_solved,
       CASE WHEN request.action = 'answer' THEN 1 ELSE 0 END,
       CASE WHEN g.last_request > 0 THEN g.last_request ELSE g.messages END,
       answered.first_token_ms,
       answered.total_ms,
       p.first_reply_ms - handoff.at_ms,
       g.busy_ms
  FROM grouped g
  LEFT JOIN people p          ON p.group_id = g.group_id
  LEFT JOIN numbered request  ON request.group_id = g.group_id AND request.about = 'request'
                             AND request.from_end_of_kind = 1
  LEFT JOIN numbered latest   ON latest.group_id = g.group_id AND latest.from_end = 1
  LEFT JOIN numbered answered ON answered.group_id = g.group_id AND answered.nth_answered = 1
  LEFT JOIN numbered handoff  ON handoff.group_id = g.group_id AND handoff.nth_handoff = 1
