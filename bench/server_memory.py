# Most memory of llama-server while 32 streams of 128 + 128 tokens run at once.
#   server_memory.py LLAMA_SERVER MODEL OUT.json
import http.client
import json
import subprocess
import sys
import threading
import time

server, model, out = sys.argv[1:4]
port = 18391
process = subprocess.Popen(
    [server, "-m", model, "-t", "2", "-tb", "2", "-np", "32", "-c", str(32 * 256),
     "--host", "127.0.0.1", "--port", str(port)],
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def ask(path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("POST" if body else "GET", path, json.dumps(body) if body else None,
                       {"Content-Type": "application/json"})
    response = connection.getresponse()
    text = response.read()
    connection.close()
    return response.status, text


try:
    for _ in range(600):
        try:
            if ask("/health")[0] == 200:
                break
        except OSError:
            pass
        time.sleep(0.1)
    else:
        sys.exit("llama-server did not come up")
    failures = []

    def one(i):
        tokens = [1000 + (i * 131 + k * 17) % 40000 for k in range(127)]
        status, text = ask("/completion", {"prompt": tokens, "n_predict": 128, "ignore_eos": True,
                                           "temperature": 0, "cache_prompt": False})
        if status != 200:
            failures.append(text[:200])

    threads = [threading.Thread(target=one, args=(i,)) for i in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        sys.exit(f"llama-server refused {len(failures)} requests: {failures[0]}")
    peak = next(int(line.split()[1]) * 1024 for line in open(f"/proc/{process.pid}/status")
                if line.startswith("VmHWM"))
    with open(out, "w") as file:
        json.dump({"peer": "llama-server", "peak_bytes": peak}, file)
        file.write("\n")
    print(f"llama-server: {peak / 2**20:.0f} MiB")
finally:
    process.terminate()
    process.wait()
