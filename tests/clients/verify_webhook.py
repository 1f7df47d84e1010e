"""Verifies webhooks with the official `standardwebhooks` package: secret as argument, on stdin a JSON list of
{"headers": {...}, "body": "..."}; prints how many are genuine, and fails at the first that is not, or at a changed one
that is taken for genuine."""
import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError

webhook = Webhook(sys.argv[1])
deliveries = json.load(sys.stdin)
for delivery in deliveries:
    webhook.verify(delivery["body"], delivery["headers"])
    try:
        webhook.verify(delivery["body"] + " ", delivery["headers"])
    except WebhookVerificationError:
        continue
    sys.exit("a changed body was taken for genuine")
print(len(deliveries), "genuine")
