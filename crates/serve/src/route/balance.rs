//! `GET /user/balance`: what the caller's key has left, in DeepSeek's shape.
//!
//! Where no balance is kept, because no key is asked for, the key comes from a file, or it was made without
//! one, the list is empty and `is_available` is true: there is no sum that would be honest.

use crate::app::Shared;
use crate::caller::Caller;
use crate::refusal::Refusal;
use crate::store::{Balance, Currency, Money};
use axum::extract::State;
use axum::{Extension, Json};
use serde_json::{Value, json};

/// Answers with the balance.
pub(crate) async fn balance(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Value>, Refusal> {
    let balance = app.store.balance(caller);
    let balance = balance.map_err(|_| Refusal::internal("the server cannot read its accounts"))?;
    Ok(Json(body(balance)))
}

/// Sums are strings of two decimals, rounded down; a charge below a cent is kept, though it is not shown.
fn body(balance: Option<(Currency, Balance)>) -> Value {
    let Some((currency, balance)) = balance else {
        return json!({"is_available": true, "balance_infos": []});
    };
    json!({
        "is_available": balance.total() > Money::ZERO,
        "balance_infos": [{
            "currency": currency.as_str(),
            "total_balance": balance.total().rounded_down(),
            "granted_balance": balance.granted.rounded_down(),
            "topped_up_balance": balance.topped_up.rounded_down(),
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_balance_is_told_in_strings_of_two_decimals() {
        let money = |text| Money::parse(text).unwrap();
        let balance = Balance { granted: money("1.239"), topped_up: money("10") };
        assert_eq!(
            body(Some((Currency::default(), balance))),
            json!({"is_available": true, "balance_infos": [{
                "currency": "USD",
                "total_balance": "11.23",
                "granted_balance": "1.23",
                "topped_up_balance": "10.00",
            }]})
        );
        let spent = Balance { granted: Money::ZERO, topped_up: Money::ZERO.minus(money("0.5")) };
        let told = body(Some((Currency::default(), spent)));
        assert_eq!(told["is_available"], false);
        assert_eq!(told["balance_infos"][0]["total_balance"], "-0.50");
        assert_eq!(body(None), json!({"is_available": true, "balance_infos": []}));
    }
}
