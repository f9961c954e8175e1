"""What a load run does to the server: one class for each scenario, for either engine."""
