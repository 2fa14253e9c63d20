"""Looking at a study that runs or ran: progress, status, the details of a trial, and training it anew."""
