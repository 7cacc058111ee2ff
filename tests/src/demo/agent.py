#!/usr/bin/python3
"""A small AI agent: asks a model what to do, runs the commands it is told to, sends back what they printed."""
import http.client, json, os, subprocess, sys, time
from urllib.parse import urlsplit

MODEL = urlsplit(os.environ["MODEL_URL"])
BASH = {"name": "bash", "description": "Runs a command and gives back what it printed.",
        "parameters": {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}}


def ask(messages):
    """One turn of the model, over OpenAI's chat form."""
    connection = http.client.HTTPConnection(MODEL.hostname, MODEL.port, timeout=60)
    body = {"model": "scripted", "messages": messages, "tools": [{"type": "function", "function": BASH}]}
    connection.request("POST", MODEL.path + "/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    return json.load(connection.getresponse())["choices"][0]["message"]


def work(task):
    """Until the model has nothing more to run."""
    messages = [{"role": "user", "content": task}]
    while True:
        answer = ask(messages)
        messages.append(answer)
        if not answer.get("tool_calls"):
            return print("[agent] done:", answer["content"], flush=True)
        for call in answer["tool_calls"]:
            command = json.loads(call["function"]["arguments"])["command"]
            print("[agent] the model says: run", command, flush=True)
            done = subprocess.run(["/bin/bash", "-c", command], stdin=subprocess.DEVNULL, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            print(done.stdout, end="", flush=True)
            result = "%s(exit status %d)" % (done.stdout, done.returncode)
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})


if sys.argv[1] == "--every":
    while True:
        work(sys.argv[3])
        time.sleep(float(sys.argv[2]))
work(sys.argv[1])
