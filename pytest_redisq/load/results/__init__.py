"""What a load run yields: latencies, figures, thresholds, baselines, exit statuses and files."""
