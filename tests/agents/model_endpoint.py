#!/usr/bin/env python3
"""A scripted model: answers AI agents with the tool calls of a script, and writes down what they send back.

    model_endpoint.py --script SCRIPT.json --log LOG.ndjson [--port 8089] [--ready FILE]

Speaks four protocols, each as far as real agents need it:
    POST …/chat/completions             OpenAI Chat Completions       (whole and streamed)
    POST …/responses                    OpenAI Responses              (whole and streamed)
    POST …/messages                     Anthropic Messages            (whole and streamed)
    POST …:generateContent, …:streamGenerateContent   Gemini          (whole and streamed)

A script is a list of steps, or an object of named lists; with an object the first part of the URL's path names the
list (http://127.0.0.1:8089/NAME/v1/…), so that several agents can follow different scripts at one time. Steps:
    {"shell": "curl -sS http://127.0.0.2:8080/"}           run a command
    {"fetch": "http://127.0.0.2:8080/"}                    fetch a URL by the agent's own tool, else by curl
    {"write": "/tmp/x", "content": "text"}                 write a file by the agent's own tool, else by the shell
    {"read": "/etc/hostname"}                              read a file by the agent's own tool, else by cat
    {"tool": "NAME", "arguments": {...}}                   call one tool exactly so
    {"say": "done"}                                        answer in words: the end of the task
The step given is the one whose number equals the number of tool results in the request, so the endpoint keeps no state
between requests and the same request always gets the same answer. Past the last step it says "done".
Requests that declare no tools (titles, summaries, routing) are answered in words and take no step.
"""
import argparse, gzip, json, shlex, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# The names under which agents offer each kind of tool, most telling first; compared in lower case.
TOOLS = {
    "shell": ["exec_command", "shell_command", "run_shell_command", "shell", "bash", "local_shell", "container.exec",
              "run_command", "execute_command", "terminal", "run_in_terminal", "run_bash_command", "execute"],
    "fetch": ["webfetch", "web_fetch", "fetch", "fetch_url", "read_url"],
    "write": ["write", "write_file", "create_file", "write_to_file", "save"],
    "read": ["read", "read_file", "view"],
}
# The argument that carries the step's value, by kind of tool.
PATH = ["file_path", "filepath", "path", "filename", "absolute_path"]
ARGUMENT = {"shell": ["command", "cmd", "script", "code"], "fetch": ["url", "prompt"], "write": PATH, "read": PATH}
CONTENT = ["content", "contents", "text", "file_text"]
# An agent that ends its task by a command of this kind instead of by words (mini-swe-agent).
SUBMIT = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"


def text_of(value):
    """The readable text of a tool result, whatever shape the protocol gives it."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(filter(None, map(text_of, value)))
    if isinstance(value, dict):
        for key in ("text", "output", "content", "error"):
            if isinstance(value.get(key), (str, list, dict)):
                return text_of(value[key])
        return json.dumps(value)
    return "" if value is None else str(value)


# ---- reading: one function per protocol gives (tools {name: schema}, tool results [text]) ----

def read_chat(body):
    functions = [t["function"] for t in body.get("tools") or [] if t.get("type") == "function"]
    return ({f["name"]: f.get("parameters") or {} for f in functions},
            [text_of(m.get("content")) for m in body.get("messages", []) if m.get("role") == "tool"])


def read_responses(body):
    tools = {}
    for tool in body.get("tools") or []:
        inner = tool.get("tools") if tool.get("type") == "namespace" else [tool]
        for t in inner or []:
            if t.get("type") in ("function", "local_shell"):
                tools[t.get("name") or t["type"]] = t.get("parameters") or {"local_shell": t["type"] == "local_shell"}
    items = body.get("input") if isinstance(body.get("input"), list) else []
    return tools, [text_of(i.get("output")) for i in items if str(i.get("type", "")).endswith("_call_output")]


def read_messages(body):
    results = []
    for message in body.get("messages", []):
        if isinstance(message.get("content"), list):
            results += [text_of(b.get("content")) for b in message["content"] if b.get("type") == "tool_result"]
    return {t["name"]: t.get("input_schema") or {} for t in body.get("tools") or [] if "name" in t}, results


def read_gemini(body):
    tools = {}
    for group in body.get("tools") or []:
        for f in group.get("functionDeclarations") or []:
            tools[f["name"]] = f.get("parameters") or f.get("parametersJsonSchema") or {}
    parts = [p for c in body.get("contents", []) for p in c.get("parts", [])]
    return tools, [text_of(p["functionResponse"].get("response")) for p in parts if "functionResponse" in p]


# ---- choosing: step + declared tools → ("call", tool name, arguments) or ("say", text) ----

def fill(schema, wanted):
    """Arguments for a tool: what is wanted, and something harmless for whatever else the schema requires."""
    args = {}
    for name, prop in (schema.get("properties") or {}).items():
        kind = str(prop.get("type", "string")).lower()
        if name in wanted:
            value = wanted[name]
            args[name] = ["bash", "-lc", value] if kind == "array" and isinstance(value, str) else value
        elif name in (schema.get("required") or []):
            args[name] = prop["enum"][0] if prop.get("enum") else {
                "number": 10, "integer": 10, "boolean": False, "array": [], "object": {}}.get(kind, "scripted step")
    return args


def offered(kind, tools):
    by_lower = {name.lower().split("__")[-1]: name for name in tools}
    return next((by_lower[n] for n in TOOLS[kind] if n in by_lower), None)


def choose(step, tools, asked):
    if "say" in step:
        shell = offered("shell", tools)
        if SUBMIT in asked and shell:
            return ("call", shell, fill(tools[shell], {"command": "echo %s; echo %s" % (SUBMIT, shlex.quote(step["say"]))}))
        return ("say", step["say"])
    if "tool" in step:
        return ("call", step["tool"], step.get("arguments", {}))
    kind = next((k for k in TOOLS if k in step), None)
    if kind is None:
        return ("say", "the script's step %s is of no known kind" % json.dumps(step))
    value, name = step[kind], offered(kind, tools)
    if name and tools[name].get("local_shell"):
        return ("call", name, {"command": ["bash", "-lc", value]})
    if name:
        props = {p.lower(): p for p in tools[name].get("properties") or {}}
        wanted = {props[a]: value for a in ARGUMENT[kind] if a in props}
        wanted.update({props[a]: step.get("content", "") for a in CONTENT if kind == "write" and a in props})
        if wanted:
            return ("call", name, fill(tools[name], wanted))
    if kind != "shell" and offered("shell", tools):
        command = {"fetch": lambda: "curl -sS -m 10 " + shlex.quote(value),
                   "read": lambda: "cat " + shlex.quote(value),
                   "write": lambda: "printf %%s %s > %s" % (shlex.quote(step.get("content", "")), shlex.quote(value))}
        return choose({"shell": command[kind]()}, tools, asked)
    return ("say", "no tool declared here can do the step %s" % json.dumps(step))


# ---- answering: one function per protocol gives (whole answer, [(event name, data)] when streamed) ----

def answer_chat(what, n, body):
    call = {"id": "call_%d" % n, "type": "function",
            "function": {"name": what[1], "arguments": json.dumps(what[2])}} if what[0] == "call" else None
    message = {"role": "assistant", "content": None if call else what[1]}
    if call:
        message["tool_calls"] = [call]
    finish = "tool_calls" if call else "stop"
    usage = {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20, "cost": 0.0001}
    head = {"id": "chatcmpl-%d" % n, "created": 0, "model": body.get("model", "scripted")}
    delta = dict(message, tool_calls=[dict(call, index=0)]) if call else message
    chunk = dict(head, object="chat.completion.chunk")
    return (dict(head, object="chat.completion", usage=usage,
                 choices=[{"index": 0, "message": message, "finish_reason": finish}]),
            [(None, dict(chunk, choices=[{"index": 0, "delta": delta, "finish_reason": None}])),
             (None, dict(chunk, choices=[{"index": 0, "delta": {}, "finish_reason": finish}], usage=usage)),
             (None, "[DONE]")])


def answer_responses(what, n, body):
    if what[0] == "say":
        item = {"type": "message", "id": "msg_%d" % n, "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": what[1], "annotations": []}]}
    elif what[1] == "local_shell":
        item = {"type": "local_shell_call", "id": "lsc_%d" % n, "call_id": "call_%d" % n, "status": "completed",
                "action": {"type": "exec", "command": what[2]["command"], "env": {}}}
    else:
        item = {"type": "function_call", "id": "fc_%d" % n, "call_id": "call_%d" % n, "name": what[1],
                "arguments": json.dumps(what[2]), "status": "completed"}
    usage = {"input_tokens": 10, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 10,
             "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 20}
    empty = {"id": "resp_%d" % n, "object": "response", "created_at": 0, "model": body.get("model", "scripted"),
             "status": "in_progress", "output": []}
    whole = dict(empty, status="completed", output=[item], usage=usage)
    events = [{"type": "response.created", "response": empty},
              {"type": "response.output_item.added", "output_index": 0, "item": dict(item, status="in_progress")}]
    if what[0] == "say":
        events.append({"type": "response.output_text.delta", "item_id": item["id"], "output_index": 0,
                       "content_index": 0, "delta": what[1]})
    events += [{"type": "response.output_item.done", "output_index": 0, "item": item},
               {"type": "response.completed", "response": whole}]
    return whole, [(e["type"], dict(e, sequence_number=i)) for i, e in enumerate(events)]


def answer_messages(what, n, body):
    if what[0] == "call":
        block = {"type": "tool_use", "id": "toolu_%d" % n, "name": what[1], "input": what[2]}
        start, delta = dict(block, input={}), {"type": "input_json_delta", "partial_json": json.dumps(what[2])}
    else:
        block = {"type": "text", "text": what[1]}
        start, delta = dict(block, text=""), {"type": "text_delta", "text": what[1]}
    stop = {"stop_reason": "tool_use" if what[0] == "call" else "end_turn", "stop_sequence": None}
    usage = {"input_tokens": 10, "output_tokens": 10}
    head = {"id": "msg_%d" % n, "type": "message", "role": "assistant", "model": body.get("model", "scripted"), "usage": usage}
    events = [{"type": "message_start", "message": dict(head, content=[], stop_reason=None, stop_sequence=None)},
              {"type": "content_block_start", "index": 0, "content_block": start},
              {"type": "content_block_delta", "index": 0, "delta": delta},
              {"type": "content_block_stop", "index": 0},
              {"type": "message_delta", "delta": stop, "usage": usage},
              {"type": "message_stop"}]
    return dict(head, content=[block], **stop), [(e["type"], e) for e in events]


def answer_gemini(what, n, body):
    part = {"functionCall": {"id": "call_%d" % n, "name": what[1], "args": what[2]}} if what[0] == "call" else {"text": what[1]}
    whole = {"candidates": [{"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}],
             "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 10, "totalTokenCount": 20},
             "modelVersion": "scripted", "responseId": "r%d" % n}
    return whole, [(None, whole)]


PROTOCOLS = [  # (how the path ends, name, read, answer)
    ("/chat/completions", "chat", read_chat, answer_chat),
    ("/responses", "responses", read_responses, answer_responses),
    ("/messages", "messages", read_messages, answer_messages),
    (":generateContent", "gemini", read_gemini, answer_gemini),
    (":streamGenerateContent", "gemini", read_gemini, answer_gemini),
]


class Endpoint(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    scripts, log, lock = {}, sys.stderr, threading.Lock()

    def record(self, **what):
        with self.lock:
            self.log.write(json.dumps(dict(time=round(time.time(), 3), **what)) + "\n")
            self.log.flush()

    def send(self, status, data, kind="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = True

    def do_GET(self):
        self.record(api="get", path=self.path)
        model = {"id": "scripted", "object": "model", "created": 0, "owned_by": "tests"}
        self.send(200, json.dumps({"object": "list", "data": [model], "models": []}).encode())

    def do_POST(self):
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            raw = gzip.decompress(raw)
        path = self.path.split("?")[0]
        known = next((p for p in PROTOCOLS if path.endswith(p[0])), None)
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            known, body = None, {}
        if known is None:
            self.record(api="unknown", path=self.path, body=raw[:200].decode("utf-8", "replace"))
            return self.send(200 if path.endswith((":countTokens", "/count_tokens")) else 404,
                             json.dumps({"input_tokens": 10, "totalTokens": 10}).encode())
        _, api, read, answer = known
        tools, results = read(body)
        first = path.strip("/").split("/")[0]
        name = first if first in self.scripts else "default"
        script, n = self.scripts.get(name, []), len(results)
        step = script[n] if n < len(script) else {"say": "done"}
        what = choose(step, tools, raw.decode("utf-8", "replace")) if tools else ("say", "scripted")
        self.record(api=api, path=self.path, agent=self.headers.get("User-Agent", ""), script=name, step=n if tools else None,
                    tools=sorted(tools), results=results, answer=list(what))
        whole, events = answer(what, n, body)
        if body.get("stream") or path.endswith(":streamGenerateContent"):
            lines = [("event: %s\n" % e if e else "") + "data: %s\n\n" % (d if isinstance(d, str) else json.dumps(d))
                     for e, d in events]
            return self.send(200, "".join(lines).encode(), "text/event-stream")
        self.send(200, json.dumps(whole).encode())

    def log_message(self, *_):
        pass


def main():
    parse = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parse.add_argument("--script", required=True)
    parse.add_argument("--log", required=True)
    parse.add_argument("--port", type=int, default=8089)
    parse.add_argument("--ready", help="a file made once the endpoint listens; holds the port")
    args = parse.parse_args()
    with open(args.script) as f:
        scripts = json.load(f)
    Endpoint.scripts = scripts if isinstance(scripts, dict) else {"default": scripts}
    Endpoint.log = open(args.log, "a")
    server = ThreadingHTTPServer(("127.0.0.1", args.port), Endpoint)
    if args.ready:
        with open(args.ready, "w") as f:
            f.write("%d\n" % server.server_port)
    server.serve_forever()


if __name__ == "__main__":
    main()
