"""When PayPal charges: 10:00 UTC on a day of the calendar that is reckoned in PayPal's own time zone, Pacific time.

10:00 GMT, whatever the country: developer.paypal.com, "Payment processing and retry". Which day: real subscriptions that began
between 00:00 and 07:00 UTC are charged as if they had begun the day before. 29th to 31st: developer.paypal.com,
"How subscription billing cycles work" (Payments Standard; assumed to hold for the Subscriptions API as well).
"""
from datetime import date, datetime, timedelta, timezone

HOUR = 10
DAY = 86400


def pacific_day(epoch):
    """The date in Los Angeles at that instant: UTC-7 from the second Sunday of March, 10:00 UTC, to the first of November, 09:00, else UTC-8."""
    at = datetime.fromtimestamp(epoch, timezone.utc)
    begins = _sunday(at.year, 3, 2) + timedelta(hours=10)
    ends = _sunday(at.year, 11, 1) + timedelta(hours=9)
    return (at - timedelta(hours=7 if begins <= at < ends else 8)).date()


def _sunday(year, month, number):
    first = datetime(year, month, 1, tzinfo=timezone.utc)
    return first + timedelta(days=(6 - first.weekday()) % 7 + 7 * (number - 1))


def after(day, unit, count):
    """The date `count` DAYs, WEEKs, MONTHs or YEARs after `day`; a day that the month has not becomes the 1st of the next, and stays it."""
    if unit in ("DAY", "WEEK"):
        return day + timedelta(days=count * (7 if unit == "WEEK" else 1))
    months = day.year * 12 + day.month - 1 + count * (12 if unit == "YEAR" else 1)
    try:
        return date(months // 12, months % 12 + 1, day.day)
    except ValueError:
        return date((months + 1) // 12, (months + 1) % 12 + 1, 1)


def charged_at(day):
    """The instant of the charge of that date, as next_billing_time shows it."""
    return int(datetime(day.year, day.month, day.day, HOUR, tzinfo=timezone.utc).timestamp())
