"""What an age limit makes of estimates: who passes, who is refused, who is sent to another check."""
