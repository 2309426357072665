"""The rules of trade finance: what each transaction type needs, changes, and is refused for.

    payloads.py         what a transaction of each type says (the public form of the rules)
    objects.py          what the ledger remembers; states.py: a financing's life as a table
    parameters.py       ratios, ages, rates, limits; versioned
    table.py            type -> payload, roles, handler
    context.py          the rejection codes; what a handler may see and do
    members.py          1-3     members, keys, parameters
    firms.py            4-7     firms, KYC, consent
    declarations.py     8-9     customs declarations, amendment, withdrawal
    invoices.py         10      invoices and near-duplicates
    financing.py        11-16   apply, verify, reserve, approve, disburse, withdraw, expire
    repayment.py        17-19, 25  repayment, end of a loan, transfer, correction
    other_products.py   20-22   credit queries, policies, tax filings
    governance.py       24, 26  freezing, audit
    identifiers.py      customs numbers, USCC, invoice numbers: checked on paper, turned into tokens
    views.py            who sees what; invariants.py: I1 to I15, checked from outside

A handler takes a Context and a payload, reads and writes `ctx.state`, and raises Rejected(code, fields...) to
refuse; whatever it had written is undone. It never looks at a clock or at anything outside the context.

Policies that no source publishes, and what was chosen:

* The balance of a declaration is `cap - reserved - drawn`, cap = floor(value x ratio). Several banks may
  share it. Each financing goes by the parameter version it was applied under.
* What a loan takes from a declaration in another currency is rounded up, so that many small loans never take
  nothing.
* Repayment by the buyer never gives headroom back; by own funds only if `recycle` is set, in proportion,
  rounded down.
* A reservation lasts `reservation_ttl_ns`; after that anyone may release it. Who lets several lapse gets no
  more (E_TTL).
* DECL_VERIFY answers yes or no, `probe_limit` times per bank, declaration and day (E_TTL). A bank can reserve
  only what it has verified, so reserving cannot be used to ask more often.
* A used payment reference is E_OUTSTANDING, whichever payment it was used for.
* A withdrawn declaration has cap 0; loans on it stand, flagged as SHORTFALL.
* Only the whole of a claim can be transferred, and only repayments can be corrected, by their sender and the
  regulator.
"""
