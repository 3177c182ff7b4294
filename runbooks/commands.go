package runbooks

import (
	"strings"

	"github.com/tocsin-io/tocsin/incident"
)

// shellLangs are the fence languages whose lines are shell commands.
var shellLangs = map[string]bool{"sh": true, "bash": true, "shell": true, "zsh": true, "console": true, "shell-session": true, "shellsession": true, "terminal": true}

// commands returns the shell commands of a section as written: the lines of shell code blocks,
// and of blocks without a language the lines after a prompt. Output lines of a block with
// prompts are left out; a line that ends in a backslash takes the next one with it.
func commands(lines []string) []string {
	var out, block []string
	fence, shell := "", false
	for _, line := range lines {
		if fence == "" {
			if fence = fenceOf(line); fence != "" {
				info := strings.TrimSpace(strings.TrimLeft(strings.TrimLeft(line, " \t>"), fence[:1]))
				lang, _, _ := strings.Cut(info, " ")
				shell = shellLangs[strings.ToLower(lang)] || lang == ""
				block = nil
				if lang == "" {
					block = []string{""} // marks a block that needs prompts
				}
			}
			continue
		}
		if t := strings.TrimLeft(line, " \t>"); strings.HasPrefix(t, fence) && strings.Trim(t, fence[:1]) == "" {
			if shell {
				out = append(out, shellLines(block)...)
			}
			fence, block = "", nil
			continue
		}
		if shell {
			block = append(block, line)
		}
	}
	if len(out) > MaxCommands {
		out = out[:MaxCommands]
	}
	return out
}

func shellLines(block []string) []string {
	needPrompt := len(block) > 0 && block[0] == ""
	prompts := needPrompt
	for _, l := range block {
		prompts = prompts || promptOf(l) != ""
	}
	var out []string
	for i := 0; i < len(block) && len(out) < MaxCommands; i++ {
		line := strings.TrimSpace(block[i])
		if prompts {
			p := promptOf(line)
			if p == "" {
				continue
			}
			line = strings.TrimSpace(strings.TrimPrefix(line, p))
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		for strings.HasSuffix(line, "\\") && i+1 < len(block) && len(line) < MaxCommandBytes {
			i++
			line += "\n" + block[i]
		}
		out = append(out, incident.Clip(line, MaxCommandBytes))
	}
	return out
}

// promptOf returns the prompt a line starts with, or "". "#" is not one: it starts a comment.
func promptOf(line string) string {
	if strings.HasPrefix(strings.TrimSpace(line), "$ ") {
		return "$ "
	}
	return ""
}
