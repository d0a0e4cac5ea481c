"""RichHF-18k, simulated: how well the number of annotators is inferred, and what an import of many records takes."""
