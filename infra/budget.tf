# The budget covers the whole account: for a budget per site its tag would have to be activated for billing, by hand and a day
# later.
resource "aws_budgets_budget" "site" {
  count = var.monthly_budget_usd == 0 ? 0 : 1

  name         = var.name
  budget_type  = "COST"
  time_unit    = "MONTHLY"
  limit_amount = tostring(var.monthly_budget_usd)
  limit_unit   = "USD"

  dynamic "notification" {
    for_each = { ACTUAL = 80, FORECASTED = 100 }

    content {
      notification_type          = notification.key
      threshold                  = notification.value
      threshold_type             = "PERCENTAGE"
      comparison_operator        = "GREATER_THAN"
      subscriber_email_addresses = [var.contact]
    }
  }
}
