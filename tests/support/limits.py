"""How long a test waits for what must come. No test is about how fast it comes: benchmarks are."""

LIMIT_S = 300.0  # then it hangs; a busy machine takes a tenth of that for the longest of them
PATIENT_S = 60.0  # a party's timeout where none is to be met; tests that want one met let time pass (patience.py)
