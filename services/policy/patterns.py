"""Patterns of policies: "*" stands for any text, "?" for one character. Pure, and linear in time for any pattern."""


def matches(pattern: str, text: str) -> bool:
    """Whether the whole text is what the pattern says; case counts.

    No regular expression: who deploys writes patterns, and many stars would take a backtracking engine forever.
    """
    at_pattern = at_text = 0
    star, resume = -1, 0
    while at_text < len(text):
        if at_pattern < len(pattern) and pattern[at_pattern] == "*":
            star, resume = at_pattern, at_text
            at_pattern += 1
        elif at_pattern < len(pattern) and pattern[at_pattern] in ("?", text[at_text]):
            at_pattern += 1
            at_text += 1
        elif star >= 0:
            # Let the last star eat one character more; earlier stars never need another look.
            resume += 1
            at_pattern, at_text = star + 1, resume
        else:
            return False
    return pattern[at_pattern:].strip("*") == ""
