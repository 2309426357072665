"""A quarter of Guizhou's pilot: run it, read the document, look into a table, save the report."""

from tradebft.lab import run

r = run("guizhou-pilot", seed=1)

print(f"{r.document['title']}: {r.document['virtual_seconds'] / 86400:.0f} days of virtual time")
for arm in ("paper", "database", "chain"):
    days = r.document["processes"][arm]["existing_customer_days"]
    median = f"{days['p50']:.1f} days" if days["p50"] >= 1 else f"{days['p50'] * 24:.1f} hours"
    print(f"{arm:9} {median:>10} to the money for half of the existing customers ({days['count']} cases)")

latency = r.document["consensus"]["client_ms"]
print(
    f"the ledger answers in {latency['p50']:.0f} ms, {latency['p99']:.0f} ms at worst one time in a hundred"
)

# Tables are polars data frames; `r.stages` has one row a stage of an application.
paper = r.stages.filter(arm="paper").group_by("stage").len().sort("len", "stage", descending=[True, False])
print("stages on paper:", ", ".join(f"{stage} {count}" for stage, count in paper.rows()))

print("report:", (r.save("results/first-run") / "report.html").name)
