package yaml

import (
	"strconv"
	"strings"
)

// kindOf returns the kind of a plain scalar, or 0 when YAML 1.1 and 1.2 and their parsers read
// different numbers from it.
func kindOf(text string) Kind {
	switch text {
	case "", "~", "null", "Null", "NULL":
		return Null
	case "true", "True", "TRUE", "false", "False", "FALSE":
		return Bool
	case ".inf", ".Inf", ".INF", "-.inf", "-.Inf", "-.INF", ".nan", ".NaN", ".NAN":
		return NonFinite
	}
	digits := strings.TrimLeft(text, "+-")
	signs := len(text) - len(digits)
	if signs == 0 && digits[0] == '_' || !isNumber(digits) {
		return Text
	}
	switch {
	case signs > 1, strings.Contains(text, "_"):
		return 0
	case strings.Contains(text, "."):
		return Float
	case digits[0] == '0' && len(digits) > 1 && digits[1] != 'x':
		return 0
	case number(text) == nil:
		return Text // too large for any number; often a digest that has no letters
	}
	return Int
}

// isNumber says whether some parser takes digits without a sign for a number that fits 64 bits.
func isNumber(digits string) bool {
	digits = strings.ReplaceAll(digits, "_", "")
	if strings.Contains(digits, ".") {
		_, err := strconv.ParseFloat(digits, 64)
		return err == nil && !strings.ContainsAny(digits, "xXpP")
	}
	base := 10
	if len(digits) > 1 && digits[0] == '0' {
		base = 8
		switch digits[1] {
		case 'x':
			digits, base = digits[2:], 16
		case 'o':
			digits, base = digits[2:], 8
		case 'b':
			digits, base = digits[2:], 2
		}
	}
	_, err := strconv.ParseUint(digits, base, 64)
	return err == nil
}

// Bool says whether a Bool is true.
func (n *Node) Bool() bool { return n.Kind == Bool && (n.Text[0] == 't' || n.Text[0] == 'T') }

// Number returns the value of an Int, an int64 when it has a minus and else a uint64, and the
// float64 of a Float. It is nil for other nodes.
func (n *Node) Number() any {
	if n.Kind != Int && n.Kind != Float {
		return nil
	}
	return number(n.Text)
}

// number reads what kindOf takes for a number; it is nil when that does not fit 64 bits.
func number(text string) any {
	if strings.Contains(text, ".") {
		if f, err := strconv.ParseFloat(text, 64); err == nil {
			return f
		}
		return nil
	}
	base := 10
	sign, digits := "", strings.TrimPrefix(text, "+")
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	if strings.HasPrefix(digits, "0x") {
		digits, base = digits[2:], 16
	}
	if sign != "" {
		if i, err := strconv.ParseInt(sign+digits, base, 64); err == nil {
			return i
		}
		return nil
	}
	if u, err := strconv.ParseUint(digits, base, 64); err == nil {
		return u
	}
	return nil
}
