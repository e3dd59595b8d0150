package evidencelook

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli/evidencefile"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// The words of what is printed.
const (
	printVerified     = "VERIFIED  %s%s, as of %s\n"
	printRefused      = "REFUSED  %s%s, as of %s: %s\n          %s\n"
	printNext         = "          What to do: %s\n"
	printFile         = "  %-26s %s\n"
	printCheck        = "  %-12s %-15s %s\n"
	printUnread       = "  not read: %s\n"
	printMadeFor      = "  made for: %s\n"
	printPolicy       = "\nPolicy: put this into a policy of format 2. What the guest itself states (agent_builds, image_ids,\ntenants, memory_limit) is waived: replace these waivers by what you expect\n\n"
	printReference    = "\nReference values: import with 'anchorhold policy values import'\n\n"
	printWarning      = "  WARNING: %s\n"
	printNotVerified  = "NOT VERIFIED: these are the bytes' own words, and whoever wrote them may have lied\n"
	headingFiles      = "\nFiles\n"
	headingChecks     = "\nChecks\n"
	headingGuest      = "\nGuest\n"
	headingRegisters  = "\nRegisters\n"
	headingWarnings   = "\nWarnings\n"
	headingIndented   = "\n%s\n"
	registerCovers    = "  %-8s %s (%s)\n"
	fieldLine         = "%s%-24s %s\n"
	bitField          = "0x%016x"
	allZeros          = "zeros"
	maxPrintedSetting = 40 // of a list, before it is counted only
)

func printVerdict(w io.Writer, v verified) {
	kind := string(v.Kind)
	if kind != "" {
		kind = " (" + kind + ")"
	}
	if v.Error == nil {
		fmt.Fprintf(w, printVerified, v.Form, kind, v.At.Format(time.RFC3339))
	} else {
		fmt.Fprintf(w, printRefused, v.Form, kind, v.At.Format(time.RFC3339), v.Error.Reason, v.Error.Message)
		if v.Next != "" {
			fmt.Fprintf(w, printNext, v.Next)
		}
	}
	printFiles(w, v.Files)
	if len(v.MadeFor) > 0 {
		fmt.Fprintf(w, printMadeFor, v.MadeFor)
	}
	if len(v.Unread) > 0 {
		fmt.Fprintf(w, printUnread, strings.Join(v.Unread, ", "))
	}
	io.WriteString(w, headingChecks)
	for _, c := range v.Checks {
		fmt.Fprintf(w, printCheck, c.Outcome, c.Name, c.Detail)
	}
	if v.Claims != nil {
		printClaims(w, *v.Claims)
	}
	if s := v.Suggestion; s != nil {
		if len(s.Warnings) > 0 {
			io.WriteString(w, headingWarnings)
		}
		for _, text := range s.Warnings {
			fmt.Fprintf(w, printWarning, text)
		}
		io.WriteString(w, printPolicy+indented(s.Policy)+printReference+indented(s.ReferenceValues))
	}
}

func indented(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n  ") + "\n"
}

func printFiles(w io.Writer, files []evidencefile.File) {
	io.WriteString(w, headingFiles)
	for _, f := range files {
		fmt.Fprintf(w, printFile, f.Form, f.Path)
	}
}

// printClaims prints what was proven, the common head first and then the part of each proof.
func printClaims(w io.Writer, c evidence.Claims) {
	if c.Kind != "" {
		io.WriteString(w, headingGuest)
		for _, f := range []struct {
			name  string
			value any
		}{{"platform", c.Platform}, {"firmware", c.Firmware}, {"debug", c.Debug}, {"migratable", c.Migratable}, {"software TEE", c.SoftwareTEE}} {
			fmt.Fprintf(w, fieldLine, "  ", f.name, fmt.Sprint(f.value))
		}
	}
	if len(c.Registers) > 0 {
		io.WriteString(w, headingRegisters)
		for _, r := range slices.SortedStableFunc(slices.Values(c.Registers), func(a, b evidence.Measured) int {
			return byNumber(a.Name, b.Name)
		}) {
			fmt.Fprintf(w, registerCovers, r.Name, r.Value, r.Covers)
		}
	}
	for _, part := range []struct {
		name  string
		claim any
		there bool
	}{
		{"SEV-SNP", c.SNP, c.SNP != nil}, {"TDX", c.TDX, c.TDX != nil}, {"Azure", c.Azure, c.Azure != nil}, {"TPM", c.TPM, c.TPM != nil}, {"Event log", c.EventLog, c.EventLog != nil}, {"Event log of the TPM", c.TPMEventLog, c.TPMEventLog != nil},
	} {
		if part.there {
			fmt.Fprintf(w, headingIndented, part.name)
			printFields(w, part.claim)
		}
	}
	for i, g := range c.GPUs {
		fmt.Fprintf(w, headingIndented, fmt.Sprintf("GPU %d", i))
		printFields(w, g)
	}
}

// printFields prints a claim as its JSON has it, in the order of its fields.
func printFields(w io.Writer, claim any) {
	raw, err := json.Marshal(claim)
	if err != nil {
		return // no claim can fail to encode
	}
	printObject(w, raw, "  ")
}

// printObject prints a JSON object as lines, in its own order.
func printObject(w io.Writer, raw []byte, indent string) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return
	}
	type member struct {
		name  string
		value json.RawMessage
	}
	var members []member
	numbered := true // such as the PCRs of a quote, which JSON has in the order of their digits
	for dec.More() {
		name, err := dec.Token()
		var value json.RawMessage
		if err != nil || dec.Decode(&value) != nil {
			return
		}
		members = append(members, member{fmt.Sprint(name), value})
		_, err = strconv.Atoi(fmt.Sprint(name))
		numbered = numbered && err == nil
	}
	if numbered {
		slices.SortStableFunc(members, func(a, b member) int { return byNumber(a.name, b.name) })
	}
	var zeros []int
	for _, m := range members {
		if n, err := strconv.Atoi(m.name); numbered && err == nil && onlyZeros(m.value) {
			zeros = append(zeros, n)
			continue
		}
		printValue(w, m.name, m.value, indent)
	}
	if len(zeros) > 0 {
		fmt.Fprintf(w, fieldLine, indent, allZeros, ranges(zeros))
	}
}

// onlyZeros reports whether a value is a register or a measurement that nothing was measured into.
func onlyZeros(value json.RawMessage) bool {
	var text string
	return json.Unmarshal(value, &text) == nil && text != "" && strings.Trim(text, "0") == ""
}

// ranges shortens 1, 2, 3, 7 to "1-3, 7".
func ranges(sorted []int) string {
	var out []string
	for i := 0; i < len(sorted); i++ {
		first := i
		for i+1 < len(sorted) && sorted[i+1] == sorted[i]+1 {
			i++
		}
		if i == first {
			out = append(out, strconv.Itoa(sorted[i]))
		} else {
			out = append(out, fmt.Sprintf("%d-%d", sorted[first], sorted[i]))
		}
	}
	return strings.Join(out, ", ")
}

// bitFields are the numbers of claims whose bits have meanings of their own.
func bitFields() []string {
	return []string{"policy_bits", "platform_info", "launch_mitigations", "current_mitigations", "seam_attributes", "td_attributes", "xfam",
		"initial_service_td_attributes", "current_service_td_attributes"}
}

// byNumber puts pcr2 before pcr10.
func byNumber(a, b string) int {
	word := func(s string) string { return strings.TrimRight(s, "0123456789") }
	if word(a) != word(b) {
		return strings.Compare(a, b)
	}
	return cmp.Or(len(a)-len(b), strings.Compare(a, b))
}

func printValue(w io.Writer, name string, value json.RawMessage, indent string) {
	var text string
	var list []json.RawMessage
	switch {
	case value[0] == '{':
		fmt.Fprintf(w, fieldLine, indent, name, "")
		printObject(w, value, indent+"  ")
	case json.Unmarshal(value, &text) == nil:
		fmt.Fprintf(w, fieldLine, indent, name, text)
	case value[0] == '[' && json.Unmarshal(value, &list) == nil:
		printList(w, name, list, indent)
	default:
		text = string(value)
		if bits, err := strconv.ParseUint(text, 10, 64); err == nil && slices.Contains(bitFields(), name) {
			text = fmt.Sprintf(bitField, bits)
		}
		fmt.Fprintf(w, fieldLine, indent, name, text)
	}
}

// printList prints a list of words on a line, and objects one below the other.
func printList(w io.Writer, name string, list []json.RawMessage, indent string) {
	var words []string
	for i, item := range list {
		if item[0] == '{' {
			fmt.Fprintf(w, fieldLine, indent, fmt.Sprintf("%s %d", name, i), "")
			printObject(w, item, indent+"  ")
			continue
		}
		var text string
		if json.Unmarshal(item, &text) != nil {
			text = string(item)
		}
		words = append(words, text)
	}
	if len(words) > maxPrintedSetting {
		words = append(words[:maxPrintedSetting], fmt.Sprintf("and %d more", len(words)-maxPrintedSetting))
	}
	if len(words) > 0 {
		fmt.Fprintf(w, fieldLine, indent, name, strings.Join(words, ", "))
	}
}
