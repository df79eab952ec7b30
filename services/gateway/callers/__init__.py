"""Who is calling, what they may do, whose things they ask for, and when their calls have to end."""
