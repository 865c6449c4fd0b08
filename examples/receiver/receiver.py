"""Takes exoflow's deliveries. `pip install standardwebhooks`, then `SECRET=whsec_… python3 receiver.py 9000`."""

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            event = Webhook(os.environ["SECRET"]).verify(body, dict(self.headers))
        except (WebhookVerificationError, ValueError):
            return self.send_error(401)
        print(self.headers["webhook-id"], event["type"], event["data"]["call"], flush=True)  # yours: keep it, then answer 2xx
        self.send_response(204)
        return self.end_headers()


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
