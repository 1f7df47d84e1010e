SELECT row_key,
       CASE WHEN outcome IN ('confirmed', 'assumed') THEN turns END  AS turns,
       first_token_ms,
       full_answer_ms,
       CASE WHEN person_reply_ms >= 0 THEN person_reply_ms END       AS person_reply_ms
  FROM picked
