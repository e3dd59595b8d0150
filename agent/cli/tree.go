package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
)

// PrintTree prints a JSON object as indented lines, keys in order.
func PrintTree(w io.Writer, data []byte, indent string) {
	var object map[string]json.RawMessage
	if json.Unmarshal(data, &object) != nil {
		fmt.Fprintf(w, "%s%s\n", indent, data)
		return
	}
	keys := make([]string, 0, len(object))
	for k := range object {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	width := 18
	for _, k := range keys {
		if v := object[k]; len(v) > 0 && v[0] != '{' {
			width = max(width, len(k))
		}
	}
	for _, k := range keys {
		var text string
		switch value := object[k]; {
		case len(value) > 0 && value[0] == '{':
			fmt.Fprintf(w, "%s%s:\n", indent, k)
			PrintTree(w, value, indent+"  ")
		case json.Unmarshal(value, &text) == nil:
			fmt.Fprintf(w, "%s%-*s %s\n", indent, width, k, text)
		case len(value) > 0 && value[0] == '[':
			fmt.Fprintf(w, "%s%-*s %d\n", indent, width, k, entries(value))
		default:
			fmt.Fprintf(w, "%s%-*s %s\n", indent, width, k, value)
		}
	}
}

// entries is the length of a JSON array; --json shows what is in it.
func entries(data []byte) int {
	var list []json.RawMessage
	if json.Unmarshal(data, &list) != nil {
		return 0
	}
	return len(list)
}
