"""The other end of an HTTP sink: keeps what it was sent and had acknowledged, one record a line.

With OTLP_DEFINITIONS it reads OTLP by the definitions that OpenTelemetry publishes, and refuses what they do not have."""

import gzip
import hashlib
import hmac
import http.server
import json
import os
import ssl
import sys

if "OTLP_DEFINITIONS" in os.environ:
    sys.path.insert(0, os.environ["OTLP_DEFINITIONS"])
    from google.protobuf import json_format
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.logs.v1.logs_pb2 import SeverityNumber

port, kept, certificate = int(sys.argv[1]), sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None


def otlp(body, encoded):
    """The bodies of all log records."""
    if "OTLP_DEFINITIONS" not in os.environ:
        logs = json.loads(body)["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
        return [log["body"]["stringValue"] for log in logs]
    if not encoded:
        # As a collector passes it on.
        body = json_format.Parse(body.decode(), ExportLogsServiceRequest()).SerializeToString()
    request = ExportLogsServiceRequest.FromString(body)
    bodies = []
    for resource in request.resource_logs:
        names = {attribute.key: attribute.value.string_value for attribute in resource.resource.attributes}
        for log in (log for scope in resource.scope_logs for log in scope.log_records):
            event = json.loads(log.body.string_value)
            attributes = {attribute.key: attribute.value for attribute in log.attributes}
            said = (names["service.name"], names["host.name"], log.event_name, attributes["chaperone.seq"].int_value)
            if said != ("chaperone", event["host"], "chaperone." + event["kind"], event["seq"]):
                raise ValueError(f"{said} is not the event's")
            severity = SeverityNumber.Name(log.severity_number)
            if severity != "SEVERITY_NUMBER_" + log.severity_text or not log.time_unix_nano % 10**9 == event["seq"]:
                raise ValueError(f"{severity} at {log.time_unix_nano}")
            bodies.append(log.body.string_value)
    return bodies


class Sink(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        wanted = "sha256=" + hmac.new(b"key", body, hashlib.sha256).hexdigest()
        if "otlp" not in self.path and not hmac.compare_digest(self.headers.get("chaperone-signature", ""), wanted):
            return self.answer(401, b"not signed by the key")
        body = gzip.decompress(body)
        if "otlp" in self.path:
            encoded = self.headers["content-type"] == "application/x-protobuf"
            try:
                text = "".join(body + "\n" for body in otlp(body, encoded))
            except Exception as error:
                return self.answer(400, str(error).encode())
        else:
            text = body.decode()
        with open(kept, "a") as file:
            file.write(text)
        self.answer(200, b"")

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Sink)
if certificate:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
