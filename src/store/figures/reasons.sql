SELECT row_key, COALESCE(handoff_kind, 'other') AS reason, COUNT(*) AS conversations
  FROM picked WHERE outcome = 'person' GROUP BY row_key, reason ORDER BY conversations DESC, reason
