"""What was proved about two backends: certificates, what each covers, and the proof itself."""
