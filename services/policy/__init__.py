"""Pure deciding code that services and the simulator share."""
