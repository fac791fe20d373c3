"""Receives inkqueue's webhooks: pip install flask standardwebhooks; WEBHOOK_SECRET=whsec_... python receiver.py."""

import os

from flask import Flask, request
from standardwebhooks import Webhook, WebhookVerificationError

app = Flask(__name__)
webhook = Webhook(os.environ["WEBHOOK_SECRET"])
seen = set()  # yours: a table with a unique column


@app.post("/hook")
def hook():
    """Check the signature over the bytes as they came, then act once for each webhook-id."""
    try:
        event = webhook.verify(request.get_data(), dict(request.headers))
    except WebhookVerificationError:
        return "wrong signature", 400
    if event["id"] not in seen:
        seen.add(event["id"])
        print(event["type"], event["data"]["id"], event["data"].get("text", ""), flush=True)
    return "", 204


if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "5000")))
