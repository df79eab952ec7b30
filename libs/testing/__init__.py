"""What tests need and nothing else imports: real servers on free loopback ports, in folders of their own."""
