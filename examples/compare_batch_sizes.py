"""How many requests should a batch hold? The same load and the same network weather with four settings."""

from pathlib import Path

from tradebft.lab import run

SCENARIO = """
# What does a batch size cost, and what does it save?
title = "Batch sizes"

[network]
nodes = 7
links = { model = "lognormal", median = "5 ms", sigma = 0.3 }

[workload]
kind = "synthetic"
transactions = 600
arrival = "open"
rate = 1500
clients = 40
payload_bytes = 200
"""

path = Path("batches.toml")
path.write_text(SCENARIO)

print("batch size   batches   messages/request   client p50   client p99")
for size in (1, 4, 16, 64):
    consensus = run(path, seed=1, set={"consensus.batch_size": size}).document["consensus"]
    messages = consensus["messages"]["total"] / consensus["transactions"]
    latency = consensus["client_ms"]
    print(
        f"{size:10}{consensus['decided_batches']:10}{messages:19.1f}"
        f"{latency['p50']:10.0f} ms{latency['p99']:10.0f} ms"
    )
