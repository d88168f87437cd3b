"""What is wrong with labelled texts, before anybody learns from them."""
