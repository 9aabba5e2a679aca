"""What a sweep's results say: tables, statistics, verdicts. Reads MLflow; needs neither torch nor Ray."""
