"""Who is told of messages besides those who ask, and what they are told: all but the bringing."""
